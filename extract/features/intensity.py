"""Intensity by Praat, in dB above the threshold of hearing if full scale is 1 Pa."""

from __future__ import annotations

from typing import Any

from pydantic import Field
from typing_extensions import override

from extract.features import NO_ROW, Row
from extract.praat import PraatExtractor, PraatFeature
from featurestore.format.codec import Floats


class Intensity(PraatFeature):
    """The mean power under a Kaiser window."""

    floor: float = Field(default=75.0, gt=0)
    """The lowest F0, in Hz, above which the periods of the voice do not show in the contour."""

    @override
    def build(self) -> IntensityExtractor:
        return IntensityExtractor(self)


class IntensityExtractor(PraatExtractor):
    """See `Intensity`."""

    feature: Intensity

    @property
    @override
    def channels(self) -> tuple[str, ...]:
        return ("intensity",)

    @property
    def window(self) -> float:
        """The length of the analysis window, in seconds."""
        return 6.4 / self.feature.floor

    @override
    def analyse(self, sound: Any, row: Row = NO_ROW) -> Floats:
        return sound.to_intensity(self.feature.floor, self.feature.hop, subtract_mean=True).values.T.clip(min=0.0)
