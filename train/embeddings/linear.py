"""A linear map of each pitch frame."""

from __future__ import annotations

import torch
from torch import nn

from train.embeddings import PITCH_CHANNELS, Embedding


class Linear(Embedding):
    """Each frame alone."""

    def build(self, width: int) -> nn.Module:  # noqa: D102
        return LinearEmbedding(width)


class LinearEmbedding(nn.Module):
    """See `Linear`."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(PITCH_CHANNELS, width)

    def forward(self, pitch: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:  # noqa: ARG002, D102
        return self.linear(pitch)
