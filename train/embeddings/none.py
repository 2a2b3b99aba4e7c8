"""No embedding: frames as the front gives them, whatever their width, for a temporal model that takes them so."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn

from train.embeddings import Embedding


class NoEmbedding(Embedding):
    """Frames as they are; the width of the stream is that of its feature."""

    each_alone: ClassVar[bool] = True

    def width_of(self, dim: int, width: int) -> int:  # noqa: ARG002, D102
        return dim

    def build(self, dim: int, width: int) -> nn.Module:  # noqa: ARG002, D102
        return AsTheyAre()


class AsTheyAre(nn.Module):
    """See `NoEmbedding`."""

    def forward(self, frames: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:  # noqa: ARG002, D102
        return frames
