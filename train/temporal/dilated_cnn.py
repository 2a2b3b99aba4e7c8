"""Dilated convolutions that see to both sides, each added to what it is given.

Source: the residual dilated convolutions of van den Oord et al. (2016), WaveNet, without its gates, and not causal.
"""

from __future__ import annotations

import torch
from pydantic import Field, field_validator
from torch import nn
from typing_extensions import override

from train.numerics.layers import WIDEST
from train.numerics.sequences import Sequences
from train.temporal import Temporal, TemporalModule, ToWidth


class DilatedCNN(Temporal):
    """Norm, convolution, GELU, dropout, added; the dilation is doubled from one to the next."""

    width: int = Field(default=128, gt=0, le=WIDEST)
    """Channels; a linear map brings frames of others to it."""
    layers: int = Field(default=4, ge=1, le=12)
    """Number of convolutions, dilated by 1, 2, 4 …"""
    kernel: int = Field(default=3, ge=1, le=101)
    """Frames that each sees, so many frames apart as it is dilated; odd."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Share of channels that a training step leaves out, the same in all frames of an utterance."""

    @field_validator("kernel")
    @classmethod
    def _is_odd(cls, kernel: int) -> int:
        if kernel % 2 == 0:
            raise ValueError(f"kernel is {kernel}, expected an odd number")
        return kernel

    @override
    def build(self, dim: int) -> TemporalModule:
        return DilatedConvolutions(dim, self)


class DilatedConvolutions(TemporalModule):
    """See `DilatedCNN`."""

    def __init__(self, dim: int, settings: DilatedCNN) -> None:
        super().__init__()
        width = settings.width
        self.to_width = ToWidth(dim, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(settings.layers))
        self.convolutions = nn.ModuleList(
            nn.Conv1d(width, width, settings.kernel, padding="same", dilation=2**number)
            for number in range(settings.layers)
        )
        self.dropout = nn.Dropout1d(settings.dropout)
        self.dim = width

    @override
    def forward(self, frames: torch.Tensor, mask: torch.Tensor) -> Sequences:
        hidden = self.to_width(frames)
        for norm, convolution in zip(self.norms, self.convolutions, strict=True):
            channels = (norm(hidden) * mask[..., None]).transpose(1, 2)
            hidden = hidden + self.dropout(nn.functional.gelu(convolution(channels))).transpose(1, 2)
        return Sequences(hidden, mask)
