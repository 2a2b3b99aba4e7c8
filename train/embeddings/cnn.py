"""Convolutions over time, so that each frame knows the movement around it."""

from __future__ import annotations

from itertools import pairwise

import torch
from pydantic import Field, field_validator
from torch import nn
from typing_extensions import override

from train.embeddings import Embedding


class CNN(Embedding):
    """Convolutions over time with GELU between them."""

    layers: int = Field(default=2, ge=1, le=32)
    """Number of convolutions."""
    kernel: int = Field(default=5, ge=1, le=1001)
    """Frames that each sees; odd."""

    @field_validator("kernel")
    @classmethod
    def _is_odd(cls, kernel: int) -> int:
        if kernel % 2 == 0:  # each frame must be in the middle of what it sees
            raise ValueError(f"kernel is {kernel}, expected an odd number")
        return kernel

    @override
    def build(self, dim: int, width: int) -> nn.Module:
        return ConvolutionalEmbedding(dim, width, self.layers, self.kernel)


class ConvolutionalEmbedding(nn.Module):
    """See `CNN`."""

    def __init__(self, dim: int, width: int, layers: int, kernel: int) -> None:
        super().__init__()
        widths = [dim] + [width] * layers
        self.convolutions = nn.ModuleList(
            nn.Conv1d(before, after, kernel, padding="same") for before, after in pairwise(widths)
        )

    @override
    def forward(self, frames: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        hidden = frames.transpose(1, 2)
        for number, convolution in enumerate(self.convolutions):
            hidden = nn.functional.gelu(hidden) if number else hidden
            hidden = convolution(hidden * mask[:, None])  # padding must not reach the last frames
        return hidden.transpose(1, 2)
