"""A linear map of each frame."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn

from train.embeddings import Embedding


class Linear(Embedding):
    """Each frame alone."""

    each_alone: ClassVar[bool] = True

    def build(self, dim: int, width: int) -> nn.Module:  # noqa: D102
        return LinearEmbedding(dim, width)


class LinearEmbedding(nn.Module):
    """See `Linear`."""

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, width)

    def forward(self, frames: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:  # noqa: ARG002, D102
        return self.linear(frames)
