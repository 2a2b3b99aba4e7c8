"""The channels of a feature that has one layer, each standardised and bounded."""

from __future__ import annotations

import torch

from featurestore.codec import Frames
from featurestore.errors import SerError
from train.fronts import FrontModule, Layered, LayeredModule, by_frame
from train.sources import Source

BOUND = 5.0
"""Standard deviations from the mean at which a channel ends. Ratios such as openSMILE's coefficients of variation lie
100 and more away in single utterances, and one of them outweighs all other channels."""


class Standardize(Layered):
    """One layer, its channels standardised and kept within 5 deviations; as it is with normalize=none."""

    def check(self, source: Source) -> None:  # noqa: D102
        super().check(source)
        if source.count != 1:
            raise SerError(
                f"{source.name} has {source.count} layers, front=standardize takes one: choose it with layers=N, or "
                "take front=layer_sum"
            )

    def build(self, source: Source) -> FrontModule:  # noqa: D102
        layered = self.module(source, learned=False)
        return layered if self.normalize == "none" else Bounded(layered)


class Bounded(FrontModule):
    """See `Standardize`."""

    def __init__(self, layered: LayeredModule) -> None:
        super().__init__()
        self.layered, self.dim = layered, layered.dim

    def fit(self, source: Source, names: list[str]) -> None:  # noqa: D102
        self.layered.fit(source, names)

    def forward(self, utterances: list[Frames], kept: torch.Tensor | None = None) -> torch.Tensor:  # noqa: D102
        bounded = self.layered(utterances).clamp(-BOUND, BOUND)
        return bounded if kept is None else bounded * by_frame(kept, utterances)
