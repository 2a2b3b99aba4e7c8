"""A feature of a store as a stream hears it: which layers, and the statistics by which it is standardised."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from featurestore.access.layers import Layers
from featurestore.access.statistics import corpus_statistics
from featurestore.format.codec import Floats, Frames
from featurestore.format.plan import FeatureSpec, Seconds
from featurestore.shared.errors import SerError
from train.numerics.kernels import frame_sums
from train.numerics.layers import SMALLEST_SD, scale_and_offset
from train.reading.corpora import AnyFeature
from train.reading.labels import some

AT_ONCE = 256
"""Utterances whose statistics are looked at together."""
Moments = tuple[Floats, Floats]
"""Mean and standard deviation."""
T = TypeVar("T")


class Source:
    """A feature and the utterances that it is read of.

    Args:
        part: the feature.
        layers: those that are read, by number; all when absent.
        owners: the speaker and the corpus of each utterance by name; empty where they are not known. Those for which
            the feature has failed are left out.
    """

    def __init__(self, part: AnyFeature, layers: int | tuple[int, ...] | None, owners: Mapping[str, pd.Series]) -> None:
        self.part, self.chosen = part, layers
        self.owners = {kind: of[~of.index.isin(list(part.failed))] for kind, of in owners.items()}
        self._compared: set[str] = set()
        self._kept: dict[Any, Any] = {}
        self.layers: Layers = None if layers is None else np.atleast_1d(layers)

    @property
    def spec(self) -> FeatureSpec:
        """What the feature is."""
        return self.part.spec

    @property
    def name(self) -> str:
        """The feature's name in the store."""
        return self.part.name

    @cached_property
    def count(self) -> int:
        """The number of layers that are read."""
        return len(np.arange(self.spec.layers)[slice(None) if self.layers is None else self.layers])

    def times(self, name: str) -> Seconds | None:
        """Return the time of each frame of an utterance in seconds, None where the feature has no clock."""
        return self.part.times(name) if self.spec.hop else None

    def read(self, name: str) -> Frames:
        """Return the stored frames of an utterance, as views of the file where they can be.

        Raises:
            SerError: if they are read for the first time, and are not those whose statistics were stored.
        """
        frames = self.part.read(name, self.layers)
        if name not in self._compared:
            self._compared.add(name)
            if is_damaged(frames, *self.own_moments(name)):
                raise SerError(f"{self.name} of {name} is not what was written: run ser-store verify {self.part.path}")
        return frames

    def pooled(self, names: list[str]) -> Moments:
        """Return mean and deviation over time, as they were stored, of the chosen layers: (utterances, layers, dim)."""
        layers = slice(None) if self.layers is None else self.layers
        mean, sd = (part[:, layers] for part in self.part.pooled(names))
        return mean, sd

    def own_moments(self, name: str) -> Moments:
        """Return the same of one utterance, (layers, dim)."""
        mean, sd = self.pooled([name])
        return mean[0], sd[0]

    def moments(self, names: list[str]) -> Moments:
        """Return mean and deviation over all frames of some utterances, (layers, dim), without reading a frame.

        Raises:
            SerError: if they are not finite, naming the utterances.
        """
        layers = slice(None) if self.layers is None else self.layers
        mean, sd = (part[layers] for part in corpus_statistics(self.part, names))
        if not (np.isfinite(mean).all() and np.isfinite(sd).all()):
            self.check(names)
        return mean, sd

    def check(self, names: list[str]) -> None:
        """Look at the mean and deviation over time of every utterance.

        Raises:
            SerError: naming utterances for which they are not finite.
        """
        bad: list[str] = []
        for first in range(0, len(names), AT_ONCE):
            group = names[first : first + AT_ONCE]
            finite = np.all(np.isfinite(self.part.pooled(group)), axis=(0, 2, 3))
            bad += [name for name, good in zip(group, finite.tolist(), strict=True) if not good]
        if bad:
            raise SerError(
                f"{self.name} of {some(bad)} is not finite: it is damaged; run ser-store repair, and extract again"
            )

    def of_company(self, name: str, kind: str, statistics: Callable[[Source, list[str]], T]) -> T:
        """Return ``statistics`` of all utterances of the speaker, or the corpus, of an utterance.

        They are kept, since they are wanted for each of these utterances in each epoch.
        """
        owner = str(self.owners[kind].loc[name])
        key = kind, owner, statistics
        if key not in self._kept:
            self._kept[key] = statistics(self, self._companies[kind][owner])
        found: T = self._kept[key]
        return found

    @cached_property
    def _companies(self) -> dict[str, dict[str, list[str]]]:
        groups = {kind: owners.groupby(owners).groups for kind, owners in self.owners.items()}
        return {kind: {str(owner): list(names) for owner, names in of.items()} for kind, of in groups.items()}


def standardised(frames: Frames, mean: Floats, sd: Floats) -> Frames:
    """Return frames whose values are less by ``mean``, in units of ``sd``, both (layers, dim); nothing is copied."""
    scale, offset = scale_and_offset(frames)
    unit = np.maximum(sd, SMALLEST_SD)
    factor = np.broadcast_to(scale / unit, unit.shape).astype(np.float32)
    return replace(frames, scale=factor, offset=((offset - mean) / unit).astype(np.float32))


def is_damaged(frames: Frames, mean: Floats, sd: Floats) -> bool:
    """Return whether stored frames cannot be those whose mean and deviation over time, (layers, dim), were stored.

    These are of the frames as they were extracted: a copy may have been through any data type.
    """
    scale, offset = scale_and_offset(frames)
    count = frames.values.shape[1]
    found = scale * frame_sums(frames, np.ones((count, frames.dim), np.float32)) / count + offset
    step = np.abs(scale) if frames.scale is not None else 0
    rounding = step / 2 + 2**-7 * np.abs(mean) + sd / 4 + 1e-6  # bfloat16: 2**-8 of a value; int4: a fraction of sd
    return not bool((np.abs(found - mean) <= rounding).all())  # NaN is not
