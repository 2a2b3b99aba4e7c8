"""A learned weight for every frame."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import nn
from typing_extensions import override

from train.numerics.layers import WIDEST
from train.poolings import Pooling, PoolingModule


class Attention(Pooling):
    """The mean, weighted by a softmax over time of a score."""

    weighs: ClassVar[bool] = True

    hidden: int | None = Field(default=None, gt=0, le=WIDEST)
    """Units of a layer, tanh, before the score; the score is linear when absent."""

    @override
    def build(self, dim: int) -> PoolingModule:
        return AttentionPooling(dim, self.hidden)


class AttentionPooling(PoolingModule):
    """See `Attention`; it begins as the mean."""

    def __init__(self, dim: int, hidden: int | None = None) -> None:
        super().__init__()
        self.dim = dim
        self.before = nn.Sequential(nn.Linear(dim, hidden), nn.Tanh()) if hidden else nn.Identity()
        self.score = nn.Linear(hidden or dim, 1)
        nn.init.zeros_(self.score.weight)
        nn.init.zeros_(self.score.bias)

    @override
    def forward(self, frames: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return torch.bmm(self.weights(frames, mask)[:, None], frames)[:, 0]

    def weights(self, frames: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return the weight of each frame, (batch, time), the sum of which is 1 in each utterance."""
        scores: torch.Tensor = self.score(self.before(frames))[..., 0].masked_fill(~mask, -torch.inf)
        return scores.softmax(dim=1)
