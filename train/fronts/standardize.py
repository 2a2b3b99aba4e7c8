"""The channels of a feature that has one layer, each standardised."""

from __future__ import annotations

from featurestore.errors import SerError
from train.fronts import FrontModule, Layered
from train.sources import Source


class Standardize(Layered):
    """One layer, as it is."""

    def check(self, source: Source) -> None:  # noqa: D102
        super().check(source)
        if source.count != 1:
            raise SerError(
                f"{source.name} has {source.count} layers, front=standardize takes one: choose it with layers=N, or "
                "take front=layer_sum"
            )

    def build(self, source: Source) -> FrontModule:  # noqa: D102
        return self.module(source, learned=False)
