"""All layers, each standardised, summed with learned softmax weights."""

from __future__ import annotations

from pydantic import Field
from typing_extensions import override

from featurestore.shared.errors import SerError
from train.fronts import FrontModule, Layered
from train.reading.sources import Source


class WeightedLayers(Layered):
    """Learned weights of the layers; with one layer that layer alone."""

    top: int | None = Field(default=None, ge=1)
    """How many layers count, those with the largest weights, which are learned of all; all of them when absent."""
    per_target: bool = False
    """Whether each target has weights of its own: it is predicted from its own sum, by a model that all targets share.
    Three targets take about three times as long to train."""

    @override
    def check(self, source: Source) -> None:
        super().check(source)
        if self.top is not None and self.top > source.count:
            raise SerError(f"{source.name} has {source.count} layers, found front.top={self.top}")

    @override
    def build(self, source: Source, targets: int = 1) -> FrontModule:
        views = targets if self.per_target and source.count > 1 else 1
        return self.module(source, learned=True, top=self.top, views=views)
