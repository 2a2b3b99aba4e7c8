"""Formants by Praat's linear prediction (Burg), in Hz."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from pydantic import Field
from typing_extensions import override

from extract.audio import SAMPLING_RATE
from extract.features import NO_ROW, Row
from extract.praat import PraatExtractor, PraatFeature
from featurestore.format.codec import Floats


class Formants(PraatFeature):
    """Frequency and bandwidth (Hz) of each formant, and whether it was found (1 or 0; if not, both are 0)."""

    count: int = Field(default=3, ge=1, le=5)
    """Formants that are stored."""
    looked_for: float = Field(default=5.0, ge=1)
    """Formants that are looked for below the ceiling."""
    ceiling: float = Field(default=5500.0, gt=0, le=8000)
    """In Hz: 5500 for women, 5000 for men."""
    window_length: float = Field(default=0.025, gt=0)
    """The effective length of the window, in seconds; the window itself is twice as long."""

    @override
    def build(self) -> FormantsExtractor:
        return FormantsExtractor(self)


class FormantsExtractor(PraatExtractor):
    """See `Formants`."""

    feature: Formants

    @property
    @override
    def channels(self) -> tuple[str, ...]:
        return tuple(f"{what}{n}" for n in range(1, self.feature.count + 1) for what in ("f", "bandwidth", "found"))

    @property
    def window(self) -> float:
        """The length of the analysis window, in seconds."""
        return 2 * self.feature.window_length

    def duration(self, samples: int) -> float:
        """Return the duration after Praat's own resampling to twice the ceiling, in seconds."""
        rate = 2 * self.feature.ceiling
        return math.floor(samples / SAMPLING_RATE * rate + 0.5) * (1 / rate)

    @override
    def analyse(self, sound: Any, row: Row = NO_ROW) -> Floats:
        asked = self.feature
        found = sound.to_formant_burg(asked.hop, asked.looked_for, asked.ceiling, asked.window_length)
        columns = []
        for n in range(1, self.feature.count + 1):
            frequency = np.array([found.get_value_at_time(n, time) for time in found.xs()])
            bandwidth = np.array([found.get_bandwidth_at_time(n, time) for time in found.xs()])
            there = np.isfinite(frequency) & np.isfinite(bandwidth)
            columns += [np.where(there, frequency, 0.0), np.where(there, bandwidth, 0.0), there]
        return np.stack(columns, axis=-1)
