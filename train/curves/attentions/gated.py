"""A gate for every chunk, from the chunk alone."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn
from typing_extensions import override

from train.curves.attentions import ChunkAttention, ChunkAttentionModule

SMALLEST = 1e-6


class Gated(ChunkAttention):
    """Each chunk counts as much as a sigmoid of a linear score of it, beside those of the others."""

    weighs: ClassVar[bool] = True

    @override
    def build(self, dim: int) -> ChunkAttentionModule:
        return GatedAttention(dim)


class GatedAttention(ChunkAttentionModule):
    """See `Gated`."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.score = nn.Linear(dim, 1)

    @override
    def forward(self, vectors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        gates = self.score(vectors)[..., 0].sigmoid() + SMALLEST
        return vectors, gates / gates.sum(dim=1, keepdim=True)
