"""w2v-BERT 2.0, which reads pairs of log-mel frames, normalised over the utterance."""

from __future__ import annotations

from typing import ClassVar

import torch

from extract.audio import SAMPLING_RATE, Wave
from extract.encoders.backbone import Backbone, Preprocessing

MEL_WINDOW, MEL_HOP, PAIR = 400, 160, 2


class W2vBertBackbone(Backbone):
    """w2v-BERT 2.0."""

    FIRST_FRAME: ClassVar[float] = (MEL_WINDOW + MEL_HOP) / 2 / SAMPLING_RATE

    def __init__(self, model: torch.nn.Module, preprocessing: Preprocessing) -> None:
        from transformers import SeamlessM4TFeatureExtractor

        super().__init__(model, preprocessing)
        self._log_mel = SeamlessM4TFeatureExtractor()

    @staticmethod
    def count_frames(samples: int) -> int:
        """Return the number of frames of a waveform: of whole pairs of mel frames.

        >>> [W2vBertBackbone.count_frames(samples) for samples in (16_000, 560, 559)]
        [49, 1, 0]
        """
        return max(0, (samples - MEL_WINDOW) // MEL_HOP + 1) // PAIR

    def front(self, wave: Wave) -> torch.Tensor:  # noqa: D102
        normalize = self.preprocessing.normalize
        mel = self._log_mel(
            wave, sampling_rate=SAMPLING_RATE, return_tensors="pt", do_normalize_per_mel_bins=normalize
        ).input_features[:, : self.count_frames(len(wave))]
        return self.model.feature_projection(mel.to(next(self.model.parameters())))[0][0]

    def transform(self, frames: torch.Tensor, mask: torch.Tensor) -> None:  # noqa: D102
        self.model.encoder(frames, attention_mask=mask)

    @property
    def blocks(self) -> torch.nn.ModuleList:  # noqa: D102
        return self.model.encoder.layers

    @property
    def final_norm(self) -> None:
        """There is none after the last layer."""
        return None
