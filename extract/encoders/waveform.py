"""Encoders that read the waveform through convolutions: wav2vec 2.0, HuBERT, UniSpeech-SAT, data2vec-audio."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from typing_extensions import override

from extract.audio import SAMPLING_RATE, Wave
from extract.encoders.backbone import FRAME_SAMPLES, Backbone, Preprocessing
from extract.encoders.convolution import FourierConvolution, FrontEnd

FIELD = 400
"""The receptive field of a frame, in samples."""


class WaveformBackbone(Backbone):
    """wav2vec 2.0, HuBERT, UniSpeech-SAT or data2vec-audio."""

    FIRST_FRAME: ClassVar[float] = FIELD / 2 / SAMPLING_RATE

    def __init__(self, model: Any, preprocessing: Preprocessing) -> None:
        super().__init__(model, preprocessing)
        if model.device.type == "cpu":
            model.feature_extractor.forward = FrontEnd(model.feature_extractor)
            for module in model.encoder.pos_conv_embed.modules():
                if isinstance(module, torch.nn.Conv1d):
                    module.forward = FourierConvolution(module)  # type: ignore[method-assign,assignment]

    @staticmethod
    def count_frames(samples: int) -> int:
        """Return the number of frames of a waveform.

        >>> WaveformBackbone.count_frames(16_000)
        49
        """
        return max(0, (samples - FIELD) // FRAME_SAMPLES + 1)

    @override
    def front(self, wave: Wave) -> torch.Tensor:
        if self.preprocessing.normalize:
            wave = (wave - wave.mean()) / np.sqrt(wave.var() + self.preprocessing.epsilon)
        weight = next(self.model.parameters())
        convolved = self.model.feature_extractor(torch.from_numpy(wave).to(weight)[None])
        projected = self.model.feature_projection(convolved.transpose(1, 2))
        frames = projected[0] if isinstance(projected, tuple) else projected
        frames = frames + self.model.encoder.pos_conv_embed(frames)
        return (frames if self.final_norm else self.model.encoder.layer_norm(frames))[0]

    @property
    @override
    def blocks(self) -> Any:
        return self.model.encoder.layers

    @property
    @override
    def final_norm(self) -> torch.nn.Module | None:
        stable = getattr(
            self.model.config, "do_stable_layer_norm", False
        )  # all models have the norm: some before the layers, others after
        return self.model.encoder.layer_norm if stable else None
