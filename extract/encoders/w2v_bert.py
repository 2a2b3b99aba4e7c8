"""w2v-BERT 2.0, which reads pairs of log-mel frames, normalised over the utterance."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import torch
from typing_extensions import override

from extract.audio import SAMPLING_RATE, Wave
from extract.encoders.backbone import Backbone, Preprocessing

MEL_WINDOW, MEL_HOP, PAIR = 400, 160, 2


class W2vBertBackbone(Backbone):
    """w2v-BERT 2.0."""

    ATTENTION: ClassVar[str | None] = "eager"
    """The other implementations of transformers do not support its relative position bias."""
    FIRST_FRAME: ClassVar[float] = (MEL_WINDOW + MEL_HOP) / 2 / SAMPLING_RATE

    def __init__(self, model: Any, preprocessing: Preprocessing) -> None:
        from transformers import SeamlessM4TFeatureExtractor

        super().__init__(model, preprocessing)
        for block in self.blocks:
            block.self_attn.forward = partial(self._attend, block.self_attn.forward)
            block.conv_module.forward = partial(_convolve, block.conv_module.forward)
        self._log_mel = SeamlessM4TFeatureExtractor()

    @staticmethod
    def count_frames(samples: int) -> int:
        """Return the number of frames of a waveform: whole pairs of mel frames.

        >>> [W2vBertBackbone.count_frames(samples) for samples in (16_000, 560, 559)]
        [49, 1, 0]
        """
        return max(0, (samples - MEL_WINDOW) // MEL_HOP + 1) // PAIR

    @override
    def front(self, wave: Wave) -> torch.Tensor:
        normalize = self.preprocessing.normalize
        mel = self._log_mel(
            wave, sampling_rate=SAMPLING_RATE, return_tensors="pt", do_normalize_per_mel_bins=normalize
        ).input_features[:, : self.count_frames(len(wave))]
        return self.model.feature_projection(mel.to(next(self.model.parameters())))[0][0]

    @override
    def apply(self, block: Any, frames: torch.Tensor, lengths: list[int]) -> torch.Tensor:
        return block(frames, lengths, conv_attention_mask=lengths)

    def _attend(
        self, attention: Callable[..., Any], hidden_states: torch.Tensor, attention_mask: list[int], **_: Any
    ) -> tuple[torch.Tensor, None]:
        positions = self.model.encoder.embed_positions or (lambda _: None)
        parts = hidden_states.split(attention_mask, dim=1)
        found = [attention(part, relative_position_embeddings=positions(part))[0] for part in parts]
        return torch.cat(found, dim=1), None

    @property
    @override
    def blocks(self) -> Any:
        return self.model.encoder.layers

    @property
    def final_norm(self) -> None:
        """There is none after the last layer."""
        return None


def _convolve(
    convolution: Callable[[torch.Tensor], torch.Tensor], frames: torch.Tensor, attention_mask: list[int]
) -> torch.Tensor:
    return torch.cat([convolution(part) for part in frames.split(attention_mask, dim=1)], dim=1)
