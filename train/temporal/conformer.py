"""Conformer blocks: attention and convolution between two half steps of a layer of each frame.

Source: Gulati et al. (2020), Conformer: Convolution-augmented Transformer for Speech Recognition, Interspeech. Places
are sinusoids that are added once, instead of the paper's relative ones.

Weighed: torchaudio 2.11 has the block, but its wheel on PyPI is built for CUDA and does not load beside a torch for
CPUs, and the trainer needs no audio library; transformers' ``Wav2Vec2ConformerEncoderLayer`` would bring transformers.
In both the convolution sees what the padding holds, and batch normalisation counts it. So this is an own block with the
numbers of transformers', which a test compares.
"""

from __future__ import annotations

import torch
from pydantic import Field, field_validator
from torch import nn
from typing_extensions import override

from train.numerics.layers import WIDEST
from train.numerics.masked import MaskedBatchNorm, positions
from train.numerics.sequences import Sequences
from train.temporal import Temporal, TemporalModule, ToWidth
from train.temporal.transformer import check_heads


class Conformer(Temporal):
    """Conformer blocks, one upon another."""

    width: int = Field(default=128, gt=0, le=WIDEST)
    """Channels; a linear map brings frames of others to it."""
    layers: int = Field(default=2, ge=1, le=32)
    """Number of blocks."""
    heads: int = Field(default=4, gt=0)
    """Number of attention heads; divides the width."""
    hidden: int = Field(default=512, gt=0, le=WIDEST)
    """Units of the layers of each frame."""
    kernel: int = Field(default=15, ge=1, le=1001)
    """Frames that the convolution sees; odd."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Share of what each part gives that a training step leaves out."""

    @field_validator("kernel")
    @classmethod
    def _is_odd(cls, kernel: int) -> int:
        if kernel % 2 == 0:
            raise ValueError(f"kernel is {kernel}, expected an odd number")
        return kernel

    @override
    def build(self, dim: int) -> TemporalModule:
        check_heads("conformer", self.heads, self.width)
        return Blocks(dim, self)


class Blocks(TemporalModule):
    """See `Conformer`."""

    def __init__(self, dim: int, settings: Conformer) -> None:
        super().__init__()
        self.to_width = ToWidth(dim, settings.width)
        self.blocks = nn.ModuleList(ConformerBlock(settings) for _ in range(settings.layers))
        self.dim = settings.width

    @override
    def forward(self, frames: torch.Tensor, mask: torch.Tensor) -> Sequences:
        hidden = self.to_width(frames)
        hidden = hidden + positions(mask.shape[1], self.dim, hidden)
        for block in self.blocks:
            hidden = block(hidden, mask)
        return Sequences(hidden, mask)


class ConformerBlock(nn.Module):
    """Half a step of each frame, attention, convolution, half a step again, each of which is added; and a norm."""

    def __init__(self, settings: Conformer) -> None:
        super().__init__()
        width, dropout = settings.width, settings.dropout
        self.first, self.second = (_each_frame(width, settings.hidden, dropout) for _ in range(2))
        self.before_attention, self.last = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, settings.heads, dropout, batch_first=True)
        self.convolution = Convolution(width, settings.kernel, dropout)
        self.dropout = nn.Dropout(dropout)

    @override
    def forward(self, frames: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        frames = frames + self.first(frames) / 2
        asking = self.before_attention(frames)
        answer, _ = self.attention(asking, asking, asking, key_padding_mask=~mask, need_weights=False)
        frames = frames + self.dropout(answer)
        frames = frames + self.convolution(frames, mask)
        return self.last(frames + self.second(frames) / 2)


class Convolution(nn.Module):
    """Norm, gated linear unit, a convolution of each channel alone, batch norm, SiLU, linear, dropout."""

    def __init__(self, width: int, kernel: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.gated = nn.Linear(width, 2 * width, bias=False)
        self.depthwise = nn.Conv1d(width, width, kernel, padding="same", groups=width, bias=False)
        self.batch_norm = MaskedBatchNorm(width)
        self.out = nn.Linear(width, width, bias=False)
        self.dropout = nn.Dropout(dropout)

    @override
    def forward(self, frames: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        hidden = nn.functional.glu(self.gated(self.norm(frames)), dim=-1) * mask[..., None]
        hidden = self.depthwise(hidden.transpose(1, 2)).transpose(1, 2)
        return self.dropout(self.out(nn.functional.silu(self.batch_norm(hidden, mask))))


def _each_frame(width: int, hidden: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.LayerNorm(width),
        nn.Linear(width, hidden),
        nn.SiLU(),
        nn.Dropout(dropout),
        nn.Linear(hidden, width),
        nn.Dropout(dropout),
    )
