"""All layers, each standardised, with equal weights."""

from __future__ import annotations

from typing_extensions import override

from train.fronts import FrontModule, Layered
from train.reading.sources import Source


class Average(Layered):
    """The mean of the layers."""

    @override
    def build(self, source: Source, targets: int = 1) -> FrontModule:
        return self.module(source, learned=False)
