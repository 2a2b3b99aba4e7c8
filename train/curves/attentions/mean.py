"""No attention: the mean over the chunks."""

from __future__ import annotations

import torch
from typing_extensions import override

from train.curves.attentions import ChunkAttention, ChunkAttentionModule, even


class Mean(ChunkAttention):
    """Every chunk is alone, and counts the same."""

    @override
    def build(self, dim: int) -> ChunkAttentionModule:
        return MeanAttention(dim)


class MeanAttention(ChunkAttentionModule):
    """See `Mean`."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    @override
    def forward(self, vectors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return vectors, even(vectors)
