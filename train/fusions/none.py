"""No fusion: the audio frames as they are."""

from __future__ import annotations

from typing import ClassVar

import torch

from train.fusions import Fusion, FusionModule


class NoFusion(Fusion):
    """Audio only."""

    uses_pitch: ClassVar[bool] = False

    def build(self, audio_dim: int) -> FusionModule:  # noqa: D102
        return AudioOnly(audio_dim)


class AudioOnly(FusionModule):
    """See `NoFusion`."""

    def __init__(self, audio_dim: int) -> None:
        super().__init__()
        self.dim = audio_dim

    def forward(  # noqa: D102
        self,
        audio: torch.Tensor,
        pitch: torch.Tensor | None,  # noqa: ARG002
        mask: torch.Tensor,  # noqa: ARG002
    ) -> torch.Tensor:
        return audio
