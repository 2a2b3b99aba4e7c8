"""The pitch contour by Praat's autocorrelation: F0 in Hz and voicing, on Praat's own grid of times.

Source: P. Boersma (1993), Accurate short-term analysis of the fundamental frequency and the
harmonics-to-noise ratio of a sampled sound.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from typing import Self

import numpy as np
from pydantic import Field, model_validator

from extract.audio import SAMPLING_RATE, Wave
from extract.features import Feature
from featurestore.codec import Floats
from featurestore.plan import FeatureSpec

PERIODS_IN_WINDOW = 3.0


class Pitch(Feature):
    """F0 (Hz, 0 where unvoiced) and voicing (1 or 0)."""

    floor: float = Field(default=75.0, gt=0)
    """The lowest F0 looked for, in Hz."""
    ceiling: float = Field(default=600.0, gt=0)
    """The highest F0 looked for, in Hz."""
    hop: float = Field(default=0.01, gt=0)
    """Time between frames, in seconds."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.floor >= self.ceiling:
            raise ValueError(f"floor is {self.floor:g} Hz, expected less than ceiling, which is {self.ceiling:g} Hz")
        return self

    def spec(self) -> FeatureSpec:  # noqa: D102
        provenance = {"settings": self.settings(), "versions": {"parselmouth": version("praat-parselmouth")}}
        return FeatureSpec(
            layers=1,
            dim=2,
            hop=self.hop,
            dtype=self.dtype,
            compress=self.compress,
            channels=("f0", "voiced"),
            provenance=provenance,
        )

    def place(self, samples: int) -> tuple[int, float]:
        """Return Praat's number of frames and first time (``Sampled_shortTermAnalysis`` in its source).

        A waveform shorter than the analysis window has one unvoiced frame, in its middle.

        >>> frames, first = Pitch().place(16_000)
        >>> frames, round(first, 9)
        (97, 0.02)
        """
        duration = samples * (1 / SAMPLING_RATE)  # rounds as Praat does, which decides at whole frames
        window = PERIODS_IN_WINDOW / self.floor
        if window > duration:
            return 1, duration / 2
        frames = math.floor((duration - window) / self.hop) + 1
        return frames, duration / 2 - 0.5 * frames * self.hop + 0.5 * self.hop

    def compute(self, waves: Sequence[Wave]) -> Iterator[tuple[int, Floats]]:  # noqa: D102
        for position, wave in enumerate(waves):
            f0 = self._f0(wave)
            yield position, np.stack([f0, f0 > 0], axis=-1).astype(np.float32)[None]

    def _f0(self, wave: Wave) -> Floats:
        import parselmouth

        if PERIODS_IN_WINDOW / self.floor > len(wave) * (1 / SAMPLING_RATE):
            return np.zeros(1, np.float32)
        sound = parselmouth.Sound(wave.astype(np.float64), SAMPLING_RATE)
        pitch = sound.to_pitch_ac(self.hop, self.floor, pitch_ceiling=self.ceiling)
        return pitch.selected_array["frequency"].astype(np.float32)
