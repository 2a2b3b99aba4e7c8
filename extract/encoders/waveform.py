"""Encoders that read the waveform through a convolutional front end: wav2vec 2.0, HuBERT, WavLM, UniSpeech-SAT."""

from __future__ import annotations

import warnings
from typing import ClassVar

import numpy as np
import torch

from extract.audio import SAMPLING_RATE, Wave
from extract.encoders.backbone import FRAME_SAMPLES, Backbone

FIELD = 400
"""Samples under one frame."""


class WaveformBackbone(Backbone):
    """wav2vec 2.0, HuBERT, WavLM or UniSpeech-SAT."""

    FIRST_FRAME: ClassVar[float] = FIELD / 2 / SAMPLING_RATE

    @staticmethod
    def count_frames(samples: int) -> int:
        """Return the number of frames of a waveform.

        >>> WaveformBackbone.count_frames(16_000)
        49
        """
        return max(0, (samples - FIELD) // FRAME_SAMPLES + 1)

    def front(self, wave: Wave) -> torch.Tensor:  # noqa: D102
        if self.preprocessing.normalize:
            wave = (wave - wave.mean()) / np.sqrt(wave.var() + self.preprocessing.epsilon)
        weight = next(self.model.parameters())
        convolved = self.model.feature_extractor(torch.from_numpy(wave).to(weight)[None])
        projected = self.model.feature_projection(convolved.transpose(1, 2))
        return (projected[0] if isinstance(projected, tuple) else projected)[0]

    def transform(self, frames: torch.Tensor, mask: torch.Tensor) -> None:  # noqa: D102
        with warnings.catch_warnings():  # WavLM's attention in transformers mixes the types of its two masks
            warnings.filterwarnings("ignore", "Support for mismatched key_padding_mask", UserWarning)
            self.model.encoder(frames, attention_mask=mask)

    @property
    def blocks(self) -> torch.nn.ModuleList:  # noqa: D102
        return self.model.encoder.layers

    @property
    def final_norm(self) -> torch.nn.Module | None:  # noqa: D102
        return self.model.encoder.layer_norm if self.model.config.do_stable_layer_norm else None
