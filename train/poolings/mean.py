"""The mean over time."""

from __future__ import annotations

import torch

from train.poolings import Pooling, PoolingModule, masked_mean


class Mean(Pooling):
    """Every frame counts the same."""

    def build(self, dim: int) -> PoolingModule:  # noqa: D102
        return MeanPooling(dim)


class MeanPooling(PoolingModule):
    """See `Mean`."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, frames: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:  # noqa: D102
        return masked_mean(frames, mask)
