"""Layers in which each of two streams looks at itself as the other asks.

Source: the co-attention of the multi-scale chunk regularisation of Lin and Busso (2023), in the form of its code: the
query is the other stream, key and value are the own one, to which the answer is added; then a layer of each frame.
There both streams must have one length by chance; here they are on one clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from pydantic import Field
from torch import nn
from typing_extensions import override

from train.fusions import Fusion, FusionModule, check_heads, one_width
from train.fusions.attention import attend
from train.numerics.layers import WIDEST
from train.numerics.sequences import Sequences


class CoAttention(Fusion):
    """Layers of co-attention; the two streams side by side in the end."""

    most: ClassVar[int | None] = 2

    layers: int = Field(default=2, ge=1, le=32)
    """One upon another."""
    heads: int = Field(default=4, gt=0)
    """Number of attention heads; divides the width of the streams."""
    hidden: int = Field(default=512, gt=0, le=WIDEST)
    """Units of the layer of each frame."""
    dropout: float = Field(default=0.3, ge=0, lt=1)
    """Share of what each part gives that a training step leaves out."""

    @override
    def build(self, widths: Mapping[str, int]) -> FusionModule:
        width = one_width(self, widths)
        check_heads(self.heads, width)
        return CoAttentionLayers(width, self)


class CoAttentionLayers(FusionModule):
    """See `CoAttention`."""

    def __init__(self, width: int, settings: CoAttention) -> None:
        super().__init__()
        self.firsts, self.seconds = (
            nn.ModuleList(AskedLayer(width, settings) for _ in range(settings.layers)) for _ in range(2)
        )
        self.dim = 2 * width

    @override
    def forward(self, streams: dict[str, Sequences]) -> Sequences:
        first, second = streams.values()
        for of_first, of_second in zip(self.firsts, self.seconds, strict=True):
            first, second = of_first(first, second), of_second(second, first)
        return Sequences(torch.cat([first.values, second.values], dim=-1), first.mask)


class AskedLayer(nn.Module):
    """Attention of which the other stream is the query, and a layer of each frame; each added, then normalised."""

    def __init__(self, width: int, settings: CoAttention) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, settings.heads, batch_first=True)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.dropout = nn.Dropout(settings.dropout)
        self.each = nn.Sequential(
            nn.Linear(width, settings.hidden, bias=False), nn.GELU(), nn.Linear(settings.hidden, width, bias=False)
        )

    @override
    def forward(self, own: Sequences, other: Sequences) -> Sequences:
        values = self.norms[0](own.values + self.dropout(attend(self.attention, other.values, own)))
        return Sequences(self.norms[1](values + self.dropout(self.each(values))), own.mask)
