"""The mean and the standard deviation over time."""

from __future__ import annotations

import torch
from typing_extensions import override

from train.poolings import Pooling, PoolingModule, masked_mean

SMALLEST_VARIANCE = 1e-6  # the gradient of a square root has no end at zero


class Statistics(Pooling):
    """Mean and standard deviation, side by side."""

    @override
    def build(self, dim: int) -> PoolingModule:
        return StatisticsPooling(dim)


class StatisticsPooling(PoolingModule):
    """See `Statistics`."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = 2 * dim

    @override
    def forward(self, frames: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        mean = masked_mean(frames, mask)
        variance = masked_mean((frames - mean[:, None]).square(), mask)
        return torch.cat([mean, variance.clamp(min=SMALLEST_VARIANCE).sqrt()], dim=-1)
