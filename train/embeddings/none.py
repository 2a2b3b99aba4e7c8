"""No embedding: frames as the front gives them, whatever their width, for a temporal model that takes them so."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn
from typing_extensions import override

from train.embeddings import Embedding


class NoEmbedding(Embedding):
    """Frames as they are; the width of the stream is that of its feature."""

    each_alone: ClassVar[bool] = True

    @override
    def width_of(self, dim: int, width: int) -> int:
        return dim

    @override
    def build(self, dim: int, width: int) -> nn.Module:
        return AsTheyAre()


class AsTheyAre(nn.Module):
    """See `NoEmbedding`."""

    @override
    def forward(self, frames: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        return frames
