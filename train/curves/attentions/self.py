"""Self-attention over the chunks."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import nn
from typing_extensions import override

from featurestore.shared.errors import SerError
from train.curves.attentions import ChunkAttention, ChunkAttentionModule, even


class Self(ChunkAttention):
    """Each chunk attends to all chunks of its utterance, and then all count the same."""

    heads: int = Field(default=4, gt=0, le=256)
    """Number of attention heads; divides the channels of a chunk."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Share of the attended values that each training step leaves out."""

    @override
    def build(self, dim: int) -> ChunkAttentionModule:
        if dim % self.heads:
            raise SerError(f"pooling.attention.heads ({self.heads}) must divide the channels of a chunk ({dim})")
        return SelfAttention(dim, self.heads, self.dropout)


class SelfAttention(ChunkAttentionModule):
    """See `Self`; the attended values are added to the chunk's own, and normalised."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.dim = dim
        self.attend = nn.MultiheadAttention(dim, heads, dropout, batch_first=True)
        self.norm = nn.LayerNorm(dim)

    @override
    def forward(self, vectors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        attended, _ = self.attend(vectors, vectors, vectors, need_weights=False)
        return self.norm(vectors + attended), even(vectors)
