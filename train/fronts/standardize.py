"""The channels of a feature that has one layer, each standardised and bounded."""

from __future__ import annotations

from pathlib import Path
from typing import Self

import torch
from pydantic import Field, model_validator
from typing_extensions import override

from featurestore.format.codec import Frames
from featurestore.shared.errors import SerError
from train.fronts import FrontModule, Layered, LayeredModule, by_frame
from train.reading.norm import read_norm
from train.reading.sources import Source
from train.shared.files import AnyPath

BOUND = 5.0
"""Standard deviations from the mean at which a channel ends. Ratios such as openSMILE's coefficients of variation lie
100 and more away in single utterances, and one of them outweighs all other channels."""


class Standardize(Layered):
    """One layer, its channels standardised and bounded; as it is with normalize=none."""

    bound: float = Field(default=BOUND, gt=0, le=1e6)
    """Deviations from the mean at which a channel ends."""
    norm: AnyPath | None = None
    """A folder with ``feat_norm_means.mat`` and ``feat_norm_stds.mat``, as ``ser-train norm`` writes them, or others
    published: they take the place of the mean and deviation of the training part. Files of the labels are not read."""

    @model_validator(mode="after")
    def _norm_is_of_the_training_part(self) -> Self:
        if self.norm is not None and self.normalize != "train":
            raise ValueError(f"found norm beside normalize={self.normalize}: expected one of them")
        return self

    @override
    def check(self, source: Source) -> None:
        super().check(source)
        if source.count != 1:
            raise SerError(
                f"{source.name} has {source.count} layers, front=standardize takes one: choose it with layers=N, or "
                "take front=layer_sum"
            )

    @override
    def build(self, source: Source, targets: int = 1) -> FrontModule:
        layered = self.module(source, learned=False)
        return layered if self.normalize == "none" else Bounded(layered, self.bound, self.norm)


class Bounded(FrontModule):
    """See `Standardize`."""

    def __init__(self, layered: LayeredModule, bound: float, norm: Path | None) -> None:
        super().__init__()
        self.layered, self.dim, self.bound, self.norm = layered, layered.dim, bound, norm

    @override
    def fit(self, source: Source, names: list[str]) -> None:
        if self.norm is None:
            self.layered.fit(source, names)
        else:
            self.layered.layers.normalise_by(*read_norm(self.norm, self.dim))

    @override
    def forward(self, utterances: list[Frames], kept: torch.Tensor | None = None) -> torch.Tensor:
        bounded = self.layered(utterances).clamp(-self.bound, self.bound)
        return bounded if kept is None else bounded * by_frame(kept, utterances)
