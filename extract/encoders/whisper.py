"""The encoder of Whisper, which reads log-mel frames of a window of 30 s."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch.nn.functional import gelu
from typing_extensions import override

from extract.audio import SAMPLING_RATE, Wave
from extract.encoders.backbone import FRAME_SAMPLES, Backbone, Preprocessing

WINDOW_FRAMES = 30 * SAMPLING_RATE // FRAME_SAMPLES
LEAST_SAMPLES = 400  # 25 ms, as for other encoders
MEL_FRAMES_PER_FRAME = 2


class WhisperBackbone(Backbone):
    """The encoder of Whisper."""

    FIRST_FRAME: ClassVar[float] = 0.0
    """Mel frames are centred at multiples of 10 ms, and the second convolution takes every other."""
    LEAST_FRAMES: ClassVar[int] = WINDOW_FRAMES
    NORMED_BY: ClassVar[tuple[str, ...]] = ("transformers4", "transformers5")
    MOST_FRAMES: ClassVar[int | None] = WINDOW_FRAMES

    def __init__(self, model: torch.nn.Module, preprocessing: Preprocessing) -> None:
        from transformers import WhisperFeatureExtractor

        super().__init__(model, preprocessing)
        self._log_mel = WhisperFeatureExtractor(feature_size=self.model.config.num_mel_bins)

    @staticmethod
    def count_frames(samples: int) -> int:
        """Return the number of frames that hold speech.

        >>> WhisperBackbone.count_frames(16_000)
        50
        """
        return -(-samples // FRAME_SAMPLES) if samples >= LEAST_SAMPLES else 0

    @override
    def front(self, wave: Wave) -> torch.Tensor:
        normalize = self.preprocessing.normalize
        inputs = self._log_mel(wave, sampling_rate=SAMPLING_RATE, return_tensors="pt", do_normalize=normalize)
        mel = inputs.input_features.to(self.model.conv1.weight)
        if self.preprocessing.trim:
            mel = mel[..., : MEL_FRAMES_PER_FRAME * self.count_frames(len(wave))]
        frames = gelu(self.model.conv2(gelu(self.model.conv1(mel))))[0].T
        return frames + self.model.embed_positions.weight[: len(frames)]

    def fronts(self, wave: Wave, windows: Sequence[tuple[int, int]]) -> list[torch.Tensor]:
        """Return what enters the first layer for windows of a waveform; each window is an input of its own."""
        return [self.front(wave[start * FRAME_SAMPLES : stop * FRAME_SAMPLES]) for start, stop in windows]

    @property
    @override
    def blocks(self) -> Any:
        return self.model.layers

    @property
    @override
    def final_norm(self) -> torch.nn.Module | None:
        return self.model.layer_norm
