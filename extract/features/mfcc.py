"""Mel-frequency cepstral coefficients: the cosine transform (DCT-II, orthonormal) of log-mel energies.

Source: S. Davis, P. Mermelstein (1980), Comparison of parametric representations for monosyllabic word recognition in
continuously spoken sentences.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Self

import numpy as np
from pydantic import Field, model_validator
from typing_extensions import override

from extract.audio import Wave
from extract.features import Computed, Row
from extract.features.logmel import LogMel, LogMelExtractor
from featurestore.format.codec import Floats


class MFCC(LogMel):
    """The first coefficients; its other settings are those of logmel."""

    n_mfcc: int = Field(default=40, gt=0)
    """Number of coefficients."""

    @model_validator(mode="after")
    def _check_count(self) -> Self:
        if self.n_mfcc > self.n_mels:
            raise ValueError(f"n_mfcc is {self.n_mfcc}, expected at most n_mels, which is {self.n_mels}")
        return self

    @override
    def build(self) -> MFCCExtractor:
        return MFCCExtractor(self)


class MFCCExtractor(LogMelExtractor):
    """See `MFCC`."""

    feature: MFCC

    @property
    def dim(self) -> int:
        """The number of values of a frame."""
        return self.feature.n_mfcc

    @override
    def compute(self, waves: Sequence[Wave], rows: Sequence[Row] = ()) -> Iterator[Computed]:
        for position, wave in enumerate(waves):
            yield Computed(position, (self.frames(wave) @ self._cosines)[None])

    @cached_property
    def _cosines(self) -> Floats:
        """The transform, (n_mels, n_mfcc)."""
        count = self.feature.n_mels
        bands, orders = np.arange(count)[:, None], np.arange(self.feature.n_mfcc)
        cosines = np.cos(np.pi / count * (bands + 0.5) * orders) * np.sqrt(2 / count)
        cosines[:, 0] /= np.sqrt(2)
        return cosines.astype(np.float32)
