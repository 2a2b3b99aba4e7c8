"""data2vec-audio, whose five stacked positional convolutions would carry padding into the frames beside it."""

from __future__ import annotations

import torch

from extract.audio import Wave
from extract.encoders.backbone import Backbone
from extract.encoders.waveform import WaveformBackbone


class Data2VecBackbone(WaveformBackbone):
    """data2vec-audio: everything up to the first layer sees one utterance alone."""

    transform = Backbone.transform

    def front(self, wave: Wave) -> torch.Tensor:  # noqa: D102
        frames = super().front(wave)[None]
        encoder = self.model.encoder
        return encoder.layer_norm(frames + encoder.pos_conv_embed(frames))[0]

    @property
    def final_norm(self) -> None:
        """There is none after the last layer."""
        return None
