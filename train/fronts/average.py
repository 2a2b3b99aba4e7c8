"""All layers, each standardised, with equal weights."""

from __future__ import annotations

from train.fronts import FrontModule, Layered
from train.sources import Source


class Average(Layered):
    """The mean of the layers."""

    def build(self, source: Source) -> FrontModule:  # noqa: D102
        return self.module(source, learned=False)
