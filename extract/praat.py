"""The base of features that Praat computes: its grid of times, and what is done if its window does not fit.

Praat centres its frames in the sound (``Sampled_shortTermAnalysis`` in its source), so the time of the first one
depends on the length. So frames are matched by their times, never by their numbers.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from pydantic import Field
from typing_extensions import override

from extract.audio import SAMPLING_RATE, Wave
from extract.features import NO_ROW, Computed, Extractor, Feature, Row
from featurestore.format.codec import Floats
from featurestore.format.plan import FeatureSpec


class PraatFeature(Feature):
    """A feature on Praat's own grid of times."""

    hop: float = Field(default=0.01, gt=0)
    """Time between frames, in seconds."""


class PraatExtractor(Extractor):
    """Computes a feature with Praat."""

    feature: PraatFeature

    @property
    @abstractmethod
    def channels(self) -> tuple[str, ...]:
        """The names of what each frame holds."""

    @property
    @abstractmethod
    def window(self) -> float:
        """The length of the analysis window, in seconds."""

    @abstractmethod
    def analyse(self, sound: Any, row: Row = NO_ROW) -> Floats:
        """Return the frames (frames, channels) of a parselmouth sound that is at least as long as the window."""

    def remark(self, row: Row) -> str:
        """Return what is odd about an utterance, given its `Feature.columns`; empty if nothing is."""
        return ""

    @override
    def spec(self) -> FeatureSpec:
        provenance = self.provenance("praat-parselmouth")
        return self.as_spec(len(self.channels), self.feature.hop, provenance, channels=self.channels)

    def place(self, samples: int, row: Row = NO_ROW) -> tuple[int, float]:
        """Return Praat's number of frames and the time of the first; one in the middle if its window does not fit."""
        middle, duration = samples * (1 / SAMPLING_RATE) / 2, self.duration(samples)
        if self.window > duration:
            return 1, middle
        hop = self.feature.hop
        frames = math.floor((duration - self.window) / hop) + 1
        return frames, middle - 0.5 * frames * hop + 0.5 * hop

    def duration(self, samples: int) -> float:
        """Return the duration that Praat analyses, in seconds, rounded as it does: a last bit can decide on a frame."""
        return samples * (1 / SAMPLING_RATE)

    def compute(self, waves: Sequence[Wave], rows: Sequence[Row] = ()) -> Iterator[Computed]:
        """Yield the feature of each waveform; one frame of zeros, and a flag, if it is shorter than the window."""
        import parselmouth

        for position, (wave, row) in enumerate(zip(waves, rows or [NO_ROW] * len(waves), strict=True)):
            if self.window > self.duration(len(wave)):
                window = f"the window of {self.feature.name}, {1000 * self.window:.4g} ms"
                flag = f"shorter than {window}: its one frame is zero"
                yield Computed(position, np.zeros((1, 1, len(self.channels)), np.float32), flag)
            else:
                frames = self.analyse(parselmouth.Sound(wave.astype(np.float64), SAMPLING_RATE), row)
                yield Computed(position, frames.astype(np.float32)[None], self.remark(row))
