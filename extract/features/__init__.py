"""Features: one module each, from waveforms at 16 kHz to frames with times."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pandas as pd

from featurestore.format.codec import Dtype, Floats, Frames
from featurestore.format.plan import Compress, FeatureSpec
from featurestore.shared.config import Component

Row = Mapping[str, Any]
"""What the table says of an utterance, by the names of the columns."""
Report = Callable[[float, float, str], None]
"""A callback that is told how much is done, of how much, and a remark."""
NO_ROW: Row = MappingProxyType({})


class Computed(NamedTuple):
    """A feature of one waveform.

    Attributes:
        position: of the waveform among those that were given.
        frames: (layers, frames, dim).
        flag: what is odd about it; empty if nothing is.
    """

    position: int
    frames: Floats
    flag: str = ""


class Stored(NamedTuple):
    """A feature of one waveform, encoded for the store.

    Attributes:
        position: of the waveform among those that were given.
        frames: as `featurestore.format.codec.encode` gives them.
        mean: over time, (layers, dim).
        sd: the standard deviation over time, (layers, dim).
    """

    position: int
    frames: Frames
    mean: Floats
    sd: Floats


def versions_of(*packages: str) -> dict[str, str]:
    """Return the versions of ``packages``, and of this one, for the provenance."""
    return {package: version(package) for package in ("ser-featurestore", *packages)}


class Feature(Component, ABC):
    """Something to compute from the waveform, frame by frame: its settings, with which `build` makes its extractor."""

    dtype: Dtype = "float32"
    """How its frames are stored."""
    compress: Compress | None = None
    """Compress the frames without loss: for archives, since reading is slower."""

    @property
    def key(self) -> str:
        """The feature's name in the store."""
        return self.name

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the table that it is computed from, beside the waveform."""
        return ()

    @property
    def surveyed(self) -> tuple[str, ...]:
        """Those of `columns` that `Extractor.survey` computes; values in the labels are ignored."""
        return ()

    @abstractmethod
    def build(self) -> Extractor:
        """Return what computes it; a model is loaded when it is needed first."""


class Extractor(ABC):
    """What computes a feature, and keeps what it has loaded."""

    feature: Feature
    """The settings; each subclass says of which feature."""

    def __init__(self, feature: Feature) -> None:
        self.feature = feature

    @property
    def on_gpu(self) -> bool:
        """Whether it computes on a GPU."""
        return False

    @abstractmethod
    def spec(self) -> FeatureSpec:
        """Return the shape, data type and provenance of the feature, known before it is computed."""

    def as_spec(
        self, dim: int, hop: float, provenance: dict[str, Any], *, layers: int = 1, channels: tuple[str, ...] = ()
    ) -> FeatureSpec:
        """Return the spec with the data type and compression of the settings; see `FeatureSpec` for the arguments."""
        return FeatureSpec(
            layers=layers,
            dim=dim,
            hop=hop,
            dtype=self.feature.dtype,
            compress=self.feature.compress,
            channels=channels,
            provenance=provenance,
        )

    def provenance(self, *packages: str) -> dict[str, Any]:
        """Return the settings, and the versions of the ``packages`` that compute the feature."""
        return {"settings": self.settings(), "versions": versions_of(*packages)}

    def settings(self) -> dict[str, Any]:
        """Return the settings that determine the values of the feature, without those of its storage."""
        settings = self.feature.to_dict()
        return {key: value for key, value in settings.items() if key not in ("dtype", "compress")}

    @abstractmethod
    def place(self, samples: int, row: Row = NO_ROW) -> tuple[int, float]:
        """Return the number of frames of a waveform and the time of the first one's centre, in seconds.

        Args:
            samples: its length at 16 kHz.
            row: the utterance's `Feature.columns`.

        Raises:
            ValueError: with the reason, if the feature cannot be computed from this utterance.
        """

    @abstractmethod
    def compute(self, waves: Sequence[Any], rows: Sequence[Row] = ()) -> Iterator[Computed]:
        """Yield the feature of each waveform, in any order.

        Args:
            waves: waveforms at 16 kHz, float32.
            rows: the `Feature.columns` of each, where there are any.
        """

    def compute_to_store(self, waves: Sequence[Any], rows: Sequence[Row] = ()) -> Iterator[Computed | Stored]:
        """Yield the same as `compute`; an extractor may encode it for the store itself."""
        yield from self.compute(waves, rows)

    def survey(
        self, table: pd.DataFrame, paths: Mapping[str, Path], known: pd.DataFrame, workers: int, report: Report
    ) -> pd.DataFrame:
        """Return the surveyed columns, computed from all of the audio before extraction; most features have none.

        Args:
            table: of the utterances to be extracted, indexed by name.
            paths: of their audio, by name.
            known: the rows of this dataset in the store, if it has the feature already; their values are kept.
            workers: processes that may be used.
            report: told how much is done.
        """
        return table[[]]


Extractors = dict[str, Extractor]
"""Extractors by the names of their features in the store."""
