"""Log-mel energies: the natural logarithm of mel-weighted power spectra, at least 1e-10."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from importlib.metadata import version
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator

from extract.audio import SAMPLING_RATE, Wave
from extract.features import Feature
from featurestore.codec import Dtype, Floats
from featurestore.plan import FeatureSpec

if TYPE_CHECKING:
    import torch


class LogMel(Feature):
    """Log-mel energies, frames centred at multiples of the hop, zeros beyond the ends."""

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
    dtype: Dtype = "float16"

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.window > self.n_fft:
            raise ValueError(f"window is {self.window}, expected at most n_fft, which is {self.n_fft}")
        return self

    def spec(self) -> FeatureSpec:  # noqa: D102
        provenance = {"settings": self.settings(), "versions": {p: version(p) for p in ("torch", "transformers")}}
        hop = self.hop_length / SAMPLING_RATE
        return FeatureSpec(
            layers=1, dim=self.n_mels, hop=hop, dtype=self.dtype, compress=self.compress, provenance=provenance
        )

    def place(self, samples: int) -> tuple[int, float]:
        """Return the number of frames and the time of the first.

        >>> LogMel().place(16_000)
        (101, 0.0)
        """
        return samples // self.hop_length + 1, 0.0

    def compute(self, waves: Sequence[Wave]) -> Iterator[tuple[int, Floats]]:  # noqa: D102
        import torch

        window = torch.hann_window(self.window)
        for position, wave in enumerate(waves):
            spectrum = torch.stft(
                torch.from_numpy(wave),
                self.n_fft,
                self.hop_length,
                self.window,
                window,
                pad_mode="constant",
                return_complex=True,
            )
            power = spectrum.abs().square().T @ self._filters
            yield position, power.clamp(min=1e-10).log()[None].numpy()

    @cached_property
    def _filters(self) -> torch.Tensor:
        import torch
        from transformers.audio_utils import mel_filter_bank

        norm = "slaney" if self.scale == "slaney" else None
        bins = self.n_fft // 2 + 1
        filters = mel_filter_bank(bins, self.n_mels, 0.0, self.f_max, SAMPLING_RATE, norm, self.scale)
        return torch.from_numpy(filters).float()
