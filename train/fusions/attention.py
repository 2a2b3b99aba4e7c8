"""Multi-head attention in which the pitch contour asks and the audio frames answer."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import nn

from featurestore.errors import SerError
from train.embeddings import Embedding
from train.embeddings.linear import Linear
from train.fusions import Fusion, FusionModule


class Attention(Fusion):
    """Pitch is the query, audio is key and value; pitch and audio are on one clock."""

    embedding: Embedding = Field(default_factory=Linear)
    """Of the pitch contour."""
    heads: int = Field(default=8, gt=0)
    """Number of attention heads; divides the width of the audio frames."""
    residual: bool = True
    """Add the query and normalise (LayerNorm), so that the pitch itself reaches the head; false is the plain form."""

    def build(self, audio_dim: int) -> FusionModule:  # noqa: D102
        return PitchAttention(audio_dim, self)


class PitchAttention(FusionModule):
    """See `Attention`."""

    def __init__(self, audio_dim: int, settings: Attention) -> None:
        super().__init__()
        if audio_dim % settings.heads:
            raise SerError(f"fusion.heads ({settings.heads}) must divide the width of the audio ({audio_dim})")
        self.embed = settings.embedding.build(audio_dim)
        self.attention = nn.MultiheadAttention(audio_dim, settings.heads, batch_first=True)
        self.norm = nn.LayerNorm(audio_dim) if settings.residual else None
        self.dim = audio_dim

    def forward(self, audio: torch.Tensor, pitch: torch.Tensor | None, mask: torch.Tensor) -> torch.Tensor:  # noqa: D102
        query = self.embed(pitch, mask)
        answer, _ = self.attention(query, audio, audio, key_padding_mask=~mask, need_weights=False)
        return self.norm(query + answer) if self.norm else answer
