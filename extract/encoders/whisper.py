"""The encoder of Whisper, which reads log-mel frames of a window of 30 s."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812, the field's name for it

from extract.audio import SAMPLING_RATE, Wave
from extract.encoders.backbone import FRAME_SAMPLES, MINIMUM_SAMPLES, Backbone

FIRST_FRAME = 0.0  # mel frames are centred at multiples of 10 ms, and the second convolution takes every other
WINDOW_SAMPLES = 30 * SAMPLING_RATE
LEAST_FRAMES = WINDOW_SAMPLES // FRAME_SAMPLES  # that are encoded, however short the waveform
MEL_FRAMES_PER_FRAME = 2


def count_frames(samples: int) -> int:
    """Return the number of frames that hold speech.

    Raises:
        ValueError: if the waveform is longer than the window.

    >>> count_frames(16_000)
    50
    """
    if samples > WINDOW_SAMPLES:
        raise ValueError(f"{samples / SAMPLING_RATE:.2f} s is longer than Whisper's window of 30 s")
    return -(-samples // FRAME_SAMPLES) if samples >= MINIMUM_SAMPLES else 0


class WhisperBackbone(Backbone):
    """The encoder of Whisper."""

    def __init__(self, model: torch.nn.Module, normalize: bool, trim: bool) -> None:
        from transformers import WhisperFeatureExtractor

        super().__init__(model, normalize, trim)
        self._log_mel = WhisperFeatureExtractor(feature_size=self.model.config.num_mel_bins)

    def front(self, wave: Wave) -> torch.Tensor:  # noqa: D102
        inputs = self._log_mel(wave, sampling_rate=SAMPLING_RATE, return_tensors="pt", do_normalize=self.normalize)
        mel = inputs.input_features.to(self.model.conv1.weight)
        if self.trim:
            mel = mel[..., : MEL_FRAMES_PER_FRAME * count_frames(len(wave))]
        frames = F.gelu(self.model.conv2(F.gelu(self.model.conv1(mel))))[0].T
        return frames + self.model.embed_positions.weight[: len(frames)]

    def transform(self, frames: torch.Tensor, mask: torch.Tensor) -> None:  # noqa: D102
        attended = None if mask.all() else mask[:, None, None, :].expand(-1, 1, mask.shape[1], -1)
        for block in self.blocks:
            output = block(frames, attended)
            frames = output[0] if isinstance(output, tuple) else output

    @property
    def blocks(self) -> torch.nn.ModuleList:  # noqa: D102
        return self.model.layers

    @property
    def final_norm(self) -> torch.nn.Module | None:  # noqa: D102
        return self.model.layer_norm
