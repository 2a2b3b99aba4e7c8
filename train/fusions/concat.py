"""Concatenation of each audio frame with the pitch embedding at the same time."""

from __future__ import annotations

import torch
from pydantic import Field

from train.embeddings import Embedding
from train.embeddings.linear import Linear
from train.fusions import Fusion, FusionModule
from train.layers import WIDEST


class Concat(Fusion):
    """Side by side."""

    embedding: Embedding = Field(default_factory=Linear)
    """Of the pitch contour."""
    width: int = Field(default=32, gt=0, le=WIDEST)
    """Channels of the pitch embedding."""

    def build(self, audio_dim: int) -> FusionModule:  # noqa: D102
        return Concatenation(audio_dim, self)


class Concatenation(FusionModule):
    """See `Concat`."""

    def __init__(self, audio_dim: int, settings: Concat) -> None:
        super().__init__()
        self.embed = settings.embedding.build(settings.width)
        self.dim = audio_dim + settings.width

    def forward(self, audio: torch.Tensor, pitch: torch.Tensor | None, mask: torch.Tensor) -> torch.Tensor:  # noqa: D102
        return torch.cat([audio, self.embed(pitch, mask)], dim=-1)
