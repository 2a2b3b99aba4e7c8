"""Streams side by side, frame by frame, on the clock of the first."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from pydantic import Field
from typing_extensions import override

from train.fusions import Fusion, FusionModule
from train.numerics.layers import WIDEST
from train.numerics.sequences import Sequences


class Concat(Fusion):
    """Side by side."""

    width: int = Field(default=32, gt=0, le=WIDEST)
    """Channels of each stream after the first, where the stream has no width of its own."""

    @override
    def width_of_others(self, width: int) -> int:
        return self.width

    @override
    def build(self, widths: Mapping[str, int]) -> FusionModule:
        return Concatenation(sum(widths.values()))


class Concatenation(FusionModule):
    """See `Concat`."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    @override
    def forward(self, streams: dict[str, Sequences]) -> Sequences:
        first = next(iter(streams.values()))
        return Sequences(torch.cat([stream.values for stream in streams.values()], dim=-1), first.mask)
