"""A learned weight for every frame."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn

from train.poolings import Pooling, PoolingModule


class Attention(Pooling):
    """The mean, weighted by a softmax over time of a linear score."""

    weighs: ClassVar[bool] = True

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
        return torch.bmm(self.weights(frames, mask)[:, None], frames)[:, 0]

    def weights(self, frames: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return the weight of each frame, (batch, time), the sum of which is 1 in each utterance."""
        scores: torch.Tensor = self.score(frames)[..., 0].masked_fill(~mask, -torch.inf)
        return scores.softmax(dim=1)
