"""The last frame, as of a recurrent model that reads forwards."""

from __future__ import annotations

import torch
from typing_extensions import override

from train.poolings import Pooling, PoolingModule


class Last(Pooling):
    """The last frame."""

    @override
    def build(self, dim: int) -> PoolingModule:
        return LastFrame(dim)


class LastFrame(PoolingModule):
    """See `Last`."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    @override
    def forward(self, frames: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return frames[torch.arange(len(frames), device=frames.device), mask.sum(dim=1) - 1]
