"""Mean and standard deviation over time, weighted by what a small network makes of each frame.

Source: Okabe, Koshinaka and Shinoda (2018), Attentive Statistics Pooling for Deep Speaker Embedding, Interspeech.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from typing_extensions import override

from train.numerics.layers import WIDEST
from train.poolings import Pooling, PoolingModule
from train.poolings.attention import AttentionPooling
from train.poolings.statistics import SMALLEST_VARIANCE


class AttentiveStatistics(Pooling):
    """Weighted mean and standard deviation, side by side."""

    weighs: ClassVar[bool] = True

    hidden: int = Field(default=128, gt=0, le=WIDEST)
    """Units of the network, tanh, that gives the score of a frame."""

    @override
    def build(self, dim: int) -> PoolingModule:
        return AttentiveStatisticsPooling(dim, self.hidden)


class AttentiveStatisticsPooling(AttentionPooling):
    """See `AttentiveStatistics`; it begins as mean and standard deviation."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__(dim, hidden)
        self.dim = 2 * dim

    @override
    def forward(self, frames: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        weights = self.weights(frames, mask)[:, None]
        mean = torch.bmm(weights, frames)
        variance = torch.bmm(weights, (frames - mean).square())
        return torch.cat([mean, variance.clamp(min=SMALLEST_VARIANCE).sqrt()], dim=-1)[:, 0]
