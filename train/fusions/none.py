"""No fusion: one stream, as it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from train.fusions import Fusion, FusionModule
from train.sequences import Sequences


class NoFusion(Fusion):
    """One stream only."""

    least: ClassVar[int] = 1
    most: ClassVar[int | None] = 1

    def build(self, widths: Mapping[str, int]) -> FusionModule:  # noqa: D102
        return OneStream(*widths.values())


class OneStream(FusionModule):
    """See `NoFusion`."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dim = width

    def forward(self, streams: dict[str, Sequences]) -> Sequences:  # noqa: D102
        (only,) = streams.values()
        return only
