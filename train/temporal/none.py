"""No temporal model: frames as they are."""

from __future__ import annotations

import torch

from train.sequences import Sequences
from train.temporal import Temporal, TemporalModule


class NoTemporal(Temporal):
    """Frames as they are."""

    def build(self, dim: int) -> TemporalModule:  # noqa: D102
        return AsTheyAre(dim)


class AsTheyAre(TemporalModule):
    """See `NoTemporal`."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, frames: torch.Tensor, mask: torch.Tensor) -> Sequences:  # noqa: D102
        return Sequences(frames, mask)
