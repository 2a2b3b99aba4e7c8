"""A learned weight for every frame."""

from __future__ import annotations

import torch
from torch import nn

from train.poolings import Pooling, PoolingModule


class Attention(Pooling):
    """The mean, weighted by a softmax over time of a linear score."""

    def build(self, dim: int) -> PoolingModule:  # noqa: D102
        return AttentionPooling(dim)


class AttentionPooling(PoolingModule):
    """See `Attention`; it begins as the mean."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.score = nn.Linear(dim, 1)
        nn.init.zeros_(self.score.weight)
        nn.init.zeros_(self.score.bias)

    def forward(self, frames: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:  # noqa: D102
        scores = self.score(frames)[..., 0].masked_fill(~mask, -torch.inf)
        return torch.bmm(scores.softmax(dim=1)[:, None], frames)[:, 0]
