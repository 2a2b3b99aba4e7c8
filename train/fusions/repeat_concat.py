"""The means over time of the other streams beside every frame of the first."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from pydantic import Field
from typing_extensions import override

from train.fusions import Fusion, FusionModule
from train.numerics.layers import WIDEST
from train.numerics.sequences import Sequences
from train.poolings import masked_mean


class RepeatConcat(Fusion):
    """The first stream, and the mean of each of the others on its own clock, repeated."""

    width: int = Field(default=32, gt=0, le=WIDEST)
    """Channels of each stream after the first, where the stream has no width of its own."""

    @property
    @override
    def own_clocks(self) -> bool:
        return True

    @override
    def width_of_others(self, width: int) -> int:
        return self.width

    @override
    def build(self, widths: Mapping[str, int]) -> FusionModule:
        return RepeatedMeans(sum(widths.values()))


class RepeatedMeans(FusionModule):
    """See `RepeatConcat`."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    @override
    def forward(self, streams: dict[str, Sequences]) -> Sequences:
        first, *others = streams.values()
        means = [masked_mean(other.values, other.mask)[:, None].expand(-1, first.mask.shape[1], -1) for other in others]
        return Sequences(torch.cat([first.values, *means], dim=-1), first.mask)
