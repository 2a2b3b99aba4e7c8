"""The mean over time."""

from __future__ import annotations

import torch
from typing_extensions import override

from train.poolings import Pooling, PoolingModule, masked_mean


class Mean(Pooling):
    """Every frame counts the same."""

    @override
    def build(self, dim: int) -> PoolingModule:
        return MeanPooling(dim)


class MeanPooling(PoolingModule):
    """See `Mean`."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    @override
    def forward(self, frames: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return masked_mean(frames, mask)
