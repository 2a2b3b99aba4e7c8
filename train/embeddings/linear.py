"""A linear map of each frame."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn
from typing_extensions import override

from train.embeddings import Embedding


class Linear(Embedding):
    """Each frame alone."""

    each_alone: ClassVar[bool] = True

    @override
    def build(self, dim: int, width: int) -> nn.Module:
        return LinearEmbedding(dim, width)


class LinearEmbedding(nn.Module):
    """See `Linear`."""

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, width)

    @override
    def forward(self, frames: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        return self.linear(frames)
