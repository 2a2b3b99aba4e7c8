"""Log-mel energies: the logarithm of mel-weighted power spectra."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Literal, Self

import numpy as np
from pydantic import Field, model_validator
from typing_extensions import override

from extract.audio import SAMPLING_RATE, Wave
from extract.features import NO_ROW, Computed, Extractor, Feature, Row
from featurestore.format.codec import Dtype, Floats
from featurestore.format.plan import FeatureSpec
from featurestore.shared.errors import SerError

if TYPE_CHECKING:
    import torch

LEAST_POWER = 1e-10


class LogMel(Feature):
    """Log-mel energies, frames centred at multiples of the hop; powers below 1e-10 are raised to it."""

    n_mels: int = Field(default=80, gt=0)
    """Number of mel bands."""
    n_fft: int = Field(default=512, gt=0, multiple_of=2)
    """Length of the Fourier transform, in samples."""
    window: int = Field(default=400, gt=0)
    """Length of the Hann window, in samples."""
    hop_length: int = Field(default=160, gt=0)
    """Samples between frames."""
    scale: Literal["slaney", "htk"] = "slaney"
    """The mel scale; with ``slaney`` each filter has unit area."""
    f_max: float = Field(default=8000.0, gt=0, le=SAMPLING_RATE / 2)
    """The upper edge of the highest band, in Hz."""
    unit: Literal["ln", "db"] = "ln"
    """The natural logarithm, or decibels."""
    reference: Literal["one", "max"] = "one"
    """The power of 0 dB: 1, or the utterance's largest."""
    top_db: float | None = Field(default=None, gt=0)
    """Range in dB below the utterance's largest value; smaller values are raised to its lower end."""
    padding: Literal["zeros", "reflect"] = "zeros"
    """How the waveform is continued beyond its ends."""
    dtype: Dtype = "float16"
    """How its frames are stored."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.window > self.n_fft:
            raise ValueError(f"window is {self.window}, expected at most n_fft, which is {self.n_fft}")
        if self.unit == "ln" and (self.reference, self.top_db) != ("one", None):
            raise ValueError("found reference or top_db with unit=ln, expected unit=db: they are for decibels")
        return self

    @override
    def build(self) -> LogMelExtractor:
        return LogMelExtractor(self)


class LogMelExtractor(Extractor):
    """See `LogMel`."""

    feature: LogMel

    @property
    def dim(self) -> int:
        """The number of values of a frame."""
        return self.feature.n_mels

    def spec(self) -> FeatureSpec:
        """Return what the feature is.

        Raises:
            SerError: if a mel band would be empty.
        """
        empty = np.flatnonzero(~self._filters.numpy().any(axis=0)).tolist()
        if empty:
            bands = f"the mel bands {empty} of {self.feature.n_mels}"
            raise SerError(f"{bands} hold no bin of the Fourier transform: raise n_fft")
        hop = self.feature.hop_length / SAMPLING_RATE
        return self.as_spec(self.dim, hop, self.provenance("torch", "transformers"))

    def place(self, samples: int, row: Row = NO_ROW) -> tuple[int, float]:
        """Return the number of frames and the time of the first.

        >>> LogMel().build().place(16_000)
        (101, 0.0)
        """
        if self.feature.padding == "reflect" and samples <= self.feature.n_fft // 2:
            raise ValueError(f"{samples} samples are too few to be reflected over {self.feature.n_fft // 2}")
        return samples // self.feature.hop_length + 1, 0.0

    @override
    def compute(self, waves: Sequence[Wave], rows: Sequence[Row] = ()) -> Iterator[Computed]:
        for position, wave in enumerate(waves):
            yield Computed(position, self.frames(wave)[None])

    def frames(self, wave: Wave) -> Floats:
        """Return the log-mel energies (frames, n_mels) of a waveform."""
        import torch

        asked = self.feature
        spectrum = torch.stft(
            torch.from_numpy(wave),
            asked.n_fft,
            asked.hop_length,
            asked.window,
            torch.hann_window(asked.window),
            pad_mode={"zeros": "constant"}.get(asked.padding, asked.padding),
            return_complex=True,
        )
        power = (spectrum.abs().square().T @ self._filters).clamp(min=LEAST_POWER)
        if asked.unit == "ln":
            return power.log().numpy()
        decibels = 10 * power.log10()
        if asked.reference == "max":
            decibels -= decibels.max()
        if asked.top_db is not None:
            decibels = decibels.clamp(min=float(decibels.max()) - asked.top_db)
        return decibels.numpy()

    @cached_property
    def _filters(self) -> torch.Tensor:
        import torch
        from transformers.audio_utils import mel_filter_bank

        asked = self.feature
        norm = "slaney" if asked.scale == "slaney" else None
        bins = asked.n_fft // 2 + 1
        with warnings.catch_warnings():  # about empty bands, which `spec` refuses
            warnings.simplefilter("ignore", UserWarning)
            filters = mel_filter_bank(bins, asked.n_mels, 0.0, asked.f_max, SAMPLING_RATE, norm, asked.scale)
        return torch.from_numpy(filters).float()
