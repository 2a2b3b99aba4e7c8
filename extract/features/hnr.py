"""The harmonics-to-noise ratio by Praat's cross-correlation, in dB.

Source: P. Boersma (1993), Accurate short-term analysis of the fundamental frequency and the harmonics-to-noise ratio of
a sampled sound.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import Field
from typing_extensions import override

from extract.features import NO_ROW, Row
from extract.praat import PraatExtractor, PraatFeature
from featurestore.format.codec import Floats

UNVOICED = -200.0


class HNR(PraatFeature):
    """The ratio (dB, 0 where unvoiced) and voicing (1 or 0)."""

    floor: float = Field(default=75.0, gt=0)
    """The lowest F0 looked for, in Hz."""

    @override
    def build(self) -> HNRExtractor:
        return HNRExtractor(self)


class HNRExtractor(PraatExtractor):
    """See `HNR`."""

    feature: HNR

    @property
    @override
    def channels(self) -> tuple[str, ...]:
        return ("hnr", "voiced")

    @property
    def window(self) -> float:
        """The length of the analysis window, in seconds."""
        return 2.0 / self.feature.floor

    @override
    def analyse(self, sound: Any, row: Row = NO_ROW) -> Floats:
        ratio = sound.to_harmonicity_cc(self.feature.hop, self.feature.floor, periods_per_window=1.0).values[0]
        voiced = ratio > UNVOICED
        return np.stack([np.where(voiced, ratio, 0.0), voiced], axis=-1)
