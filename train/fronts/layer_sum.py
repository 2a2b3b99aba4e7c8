"""All layers, each standardised, summed with learned softmax weights."""

from __future__ import annotations

from train.fronts import FrontModule, Layered
from train.sources import Source


class WeightedLayers(Layered):
    """Learned weights of the layers; with one layer that layer alone."""

    def build(self, source: Source) -> FrontModule:  # noqa: D102
        return self.module(source, learned=True)
