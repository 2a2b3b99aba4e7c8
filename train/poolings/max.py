"""The maximum over time."""

from __future__ import annotations

import torch
from typing_extensions import override

from train.poolings import Pooling, PoolingModule


class Max(Pooling):
    """The largest value of each channel."""

    @override
    def build(self, dim: int) -> PoolingModule:
        return MaxPooling(dim)


class MaxPooling(PoolingModule):
    """See `Max`."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    @override
    def forward(self, frames: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return frames.masked_fill(~mask[..., None], -torch.inf).amax(dim=1)
