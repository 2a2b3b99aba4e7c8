"""No temporal model: frames as they are."""

from __future__ import annotations

import torch
from typing_extensions import override

from train.numerics.sequences import Sequences
from train.temporal import Temporal, TemporalModule


class NoTemporal(Temporal):
    """Frames as they are."""

    @override
    def build(self, dim: int) -> TemporalModule:
        return AsTheyAre(dim)


class AsTheyAre(TemporalModule):
    """See `NoTemporal`."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    @override
    def forward(self, frames: torch.Tensor, mask: torch.Tensor) -> Sequences:
        return Sequences(frames, mask)
