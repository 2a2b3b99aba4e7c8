"""No fusion: one stream, as it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from typing_extensions import override

from train.fusions import Fusion, FusionModule
from train.numerics.sequences import Sequences


class NoFusion(Fusion):
    """Takes one stream."""

    least: ClassVar[int] = 1
    most: ClassVar[int | None] = 1

    @override
    def build(self, widths: Mapping[str, int]) -> FusionModule:
        return OneStream(*widths.values())


class OneStream(FusionModule):
    """See `NoFusion`."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dim = width

    @override
    def forward(self, streams: dict[str, Sequences]) -> Sequences:
        (only,) = streams.values()
        return only
