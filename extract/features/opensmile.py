"""Features of openSMILE: eGeMAPS and ComParE, low-level descriptors on one clock, or functionals of the utterance.

Sources: F. Eyben and others (2016), The Geneva minimalistic acoustic parameter set (GeMAPS); B. Schuller and others
(2016), The INTERSPEECH 2016 computational paralinguistics challenge (ComParE). openSMILE has a licence of its own, for
research.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, Literal

import numpy as np
from typing_extensions import override

from extract.audio import SAMPLING_RATE, Wave
from extract.features import NO_ROW, Computed, Extractor, Feature, Row
from featurestore.format.codec import Floats
from featurestore.format.plan import FeatureSpec
from featurestore.shared.errors import SerError

HOP_SAMPLES, LEAST_SAMPLES = 160, 960
FIRST_FRAME = 0.01
LATE = 2
"""Rows by which openSMILE puts values from windows of 60 ms too early: it gives them the times of 20 ms windows."""
LATE_COLUMNS = (
    "F0",
    "jitter",
    "shimmer",
    "HNR",
    "logHNR",
    "logRelF0",
    "F1amplitude",
    "F2amplitude",
    "F3amplitude",
    "voicing",
    "pcm_zcr",
)
THERE = "windows_of_60ms"


class OpenSmile(Feature):
    """Descriptors every 10 ms, from 10 ms on; those from windows of 60 ms are moved to their own time.

    The first two frames have no such values: they are 0 there, and so is the last channel, which is 1 elsewhere.
    """

    features: Literal["eGeMAPSv02", "ComParE_2016"] = "eGeMAPSv02"
    """The set: 25 descriptors and 88 functionals, or 130 descriptors (65 and their deltas) and 6373 functionals."""
    level: Literal["descriptors", "functionals"] = "descriptors"
    """Frame by frame, or one frame for the whole utterance."""

    @property
    def key(self) -> str:
        """The set and the level."""
        return f"{self.features}-{self.level}"

    @override
    def build(self) -> OpenSmileExtractor:
        return OpenSmileExtractor(self)


class OpenSmileExtractor(Extractor):
    """See `OpenSmile`."""

    feature: OpenSmile

    @property
    def channels(self) -> tuple[str, ...]:
        """The names that openSMILE gives, and for descriptors the channel that says where all of them are known."""
        names = [name for smile in self._smiles for name in smile.feature_names]
        return tuple(names if self.feature.level == "functionals" else [*names, THERE])

    @override
    def spec(self) -> FeatureSpec:
        channels = self.channels
        hop = HOP_SAMPLES / SAMPLING_RATE
        return self.as_spec(len(channels), hop, self.provenance("opensmile"), channels=channels)

    def place(self, samples: int, row: Row = NO_ROW) -> tuple[int, float]:
        """Return the number of frames and the time of the first.

        >>> OpenSmile().build().place(16_000)
        (96, 0.01)
        """
        if samples < LEAST_SAMPLES:
            raise ValueError(f"{1000 * samples / SAMPLING_RATE:.4g} ms is shorter than openSMILE's window of 60 ms")
        if self.feature.level == "functionals":
            return 1, samples / 2 / SAMPLING_RATE
        return (samples - LEAST_SAMPLES) // HOP_SAMPLES + LATE, FIRST_FRAME

    def compute(self, waves: Sequence[Wave], rows: Sequence[Row] = ()) -> Iterator[Computed]:
        """Yield the feature of each waveform; samples beyond full scale are clipped, since openSMILE refuses them."""
        for position, wave in enumerate(waves):
            over = np.abs(wave).max() > 1
            flag = "clipped to full scale for openSMILE" if over else ""
            tables = [self._process(smile, wave) for smile in self._smiles]
            frames = np.concatenate([table[: len(tables[0])] for table in tables], axis=1)  # deltas have two rows more
            if self.feature.level == "descriptors":
                frames = self._in_time(frames)
            yield Computed(position, frames.astype(np.float32)[None], flag)

    def _process(self, smile: Any, wave: Wave) -> Floats:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # "too short": the values are NaN, and the utterance fails
            return smile.process_signal(wave.clip(-1, 1), SAMPLING_RATE).to_numpy()

    def _in_time(self, frames: Floats) -> Floats:
        """Return the frames with the late columns moved, and the channel that says where they are known."""
        late = [name.startswith(LATE_COLUMNS) for name in self.channels[:-1]]
        moved = frames.copy()
        moved[LATE:, late] = frames[:-LATE, late]
        moved[:LATE, late] = 0.0
        there = (np.arange(len(frames)) >= LATE)[:, None]
        return np.concatenate([moved, there], axis=1)

    @cached_property
    def _smiles(self) -> list[Any]:
        try:
            import opensmile
        except ImportError:
            raise SerError("the feature opensmile needs pip install 'ser-featurestore[opensmile]'") from None
        level = opensmile.FeatureLevel
        if self.feature.level == "functionals":
            levels = [level.Functionals]
        elif self.feature.features == "ComParE_2016":
            levels = [level.LowLevelDescriptors, level.LowLevelDescriptors_Deltas]
        else:
            levels = [level.LowLevelDescriptors]
        return [opensmile.Smile(getattr(opensmile.FeatureSet, self.feature.features), level) for level in levels]
