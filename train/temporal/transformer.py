"""A transformer encoder (Vaswani et al. 2017; torch's)."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import nn
from typing_extensions import override

from featurestore.shared.errors import SerError
from train.numerics.layers import WIDEST
from train.numerics.masked import positions
from train.numerics.sequences import Sequences
from train.temporal import Temporal, TemporalModule, ToWidth


class Transformer(Temporal):
    """Self-attention and a layer of each frame, by turns; places are sinusoids."""

    width: int = Field(default=128, gt=0, le=WIDEST)
    """Channels; a linear map brings frames of others to it."""
    layers: int = Field(default=2, ge=1, le=32)
    """One upon another."""
    heads: int = Field(default=4, gt=0)
    """Number of attention heads; divides the width."""
    hidden: int = Field(default=512, gt=0, le=WIDEST)
    """Units of the layer of each frame."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Share of what each part gives that a training step leaves out."""

    @override
    def build(self, dim: int) -> TemporalModule:
        check_heads("transformer", self.heads, self.width)
        return Encoder(dim, self)


class Encoder(TemporalModule):
    """See `Transformer`."""

    def __init__(self, dim: int, settings: Transformer) -> None:
        super().__init__()
        self.to_width = ToWidth(dim, settings.width)
        layer = nn.TransformerEncoderLayer(
            settings.width, settings.heads, settings.hidden, settings.dropout, "gelu", batch_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, settings.layers, enable_nested_tensor=False)
        for matrix in (one for one in self.encoder.parameters() if one.dim() > 1):
            nn.init.xavier_uniform_(matrix)  # the layers are copies of one, and would begin the same
        self.dim = settings.width

    @override
    def forward(self, frames: torch.Tensor, mask: torch.Tensor) -> Sequences:
        wide = self.to_width(frames)
        placed = wide + positions(mask.shape[1], self.dim, wide)
        return Sequences(self.encoder(placed, src_key_padding_mask=~mask), mask)


def check_heads(part: str, heads: int, width: int) -> None:
    """Check that heads divide a width.

    Raises:
        SerError: if not.
    """
    if width % heads:
        raise SerError(f"temporal={part}: heads ({heads}) must divide the width ({width})")
