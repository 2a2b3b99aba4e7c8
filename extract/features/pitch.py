"""The pitch contour by Praat: F0 in Hz and voicing, on Praat's own grid of times.

Sources: P. Boersma (1993), Accurate short-term analysis of the fundamental frequency and the harmonics-to-noise ratio
of a sampled sound (autocorrelation); C. De Looze, D. Hirst (2008), Detecting changes in key and range for the automatic
modelling and coding of intonation (the range in two passes).
"""

from __future__ import annotations

from typing import Any, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from extract.praat import PraatFeature
from featurestore.codec import Floats
from featurestore.plan import Seconds

FLOOR_FACTOR = 0.75
LEAST_VOICED = 10
"""Frames from which quartiles are taken."""


class Pitch(PraatFeature):
    """F0 (Hz, 0 where unvoiced) and voicing (1 or 0)."""

    floor: float = Field(default=75.0, gt=0)
    """The lowest F0 looked for, in Hz."""
    ceiling: float = Field(default=600.0, gt=0)
    """The highest F0 looked for, in Hz."""
    method: Literal["ac", "cc"] = "ac"
    """Autocorrelation, or cross-correlation, whose window is shorter."""
    very_accurate: bool = False
    """Twice as long a window, of another shape: slower."""
    two_pass: bool = False
    """Look again between 0.75 of the first quartile of the utterance's F0 and ``ceiling_factor`` of the third."""
    ceiling_factor: float = Field(default=1.5, gt=1.0)
    """1.5 for calm speech, 2.5 for expressive speech."""
    mode: Literal["time", "tier"] = "time"
    """``tier`` reproduces systems that stretch the voiced frames alone over the utterance, which loses the time: every
    frame counts as voiced."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.floor >= self.ceiling:
            raise ValueError(f"floor is {self.floor:g} Hz, expected less than ceiling, which is {self.ceiling:g} Hz")
        return self

    @property
    def channels(self) -> tuple[str, ...]:  # noqa: D102
        return ("f0", "voiced")

    @property
    def window(self) -> float:
        """The length of the analysis window, in seconds.

        >>> Pitch().window, Pitch(method="cc", floor=50).window
        (0.04, 0.04)
        """
        periods = 2.0 if self.method == "cc" else 6.0 if self.very_accurate else 3.0
        return periods / self.floor

    def analyse(self, sound: Any) -> Floats:  # noqa: D102
        first = self._praat(sound, self.floor, self.ceiling)
        f0, times = first.selected_array["frequency"], first.xs()
        heard = f0[f0 > 0]
        if self.two_pass and len(heard) >= LEAST_VOICED:
            low, high = np.quantile(heard, [0.25, 0.75])
            floor, ceiling = max(self.floor, FLOOR_FACTOR * low), min(self.ceiling, self.ceiling_factor * high)
            second = self._praat(sound, floor, ceiling)
            f0 = _at(times, second.xs(), second.selected_array["frequency"])
        if self.mode == "tier":
            f0 = _stretched(f0)
        return np.stack([f0, f0 > 0], axis=-1)

    def _praat(self, sound: Any, floor: float, ceiling: float) -> Any:
        analyse = sound.to_pitch_ac if self.method == "ac" else sound.to_pitch_cc
        return analyse(self.hop, floor, very_accurate=self.very_accurate, pitch_ceiling=ceiling)


def _at(times: Seconds, found: Seconds, f0: Floats) -> Floats:
    """Return F0 at ``times``, each from the nearest of the times where it was ``found``, which are as far apart."""
    nearest = np.rint((times - found[0]) / (found[1] - found[0] if len(found) > 1 else 1.0)).astype(int)
    return f0[nearest.clip(0, len(found) - 1)]


def _stretched(f0: Floats) -> Floats:
    """Return the voiced frames alone, stretched linearly over all frames; zeros if none is voiced."""
    heard = f0[f0 > 0]
    if not len(heard):
        return np.zeros_like(f0)
    return np.interp(np.linspace(0, len(heard) - 1, len(f0)), np.arange(len(heard)), heard).astype(np.float32)
