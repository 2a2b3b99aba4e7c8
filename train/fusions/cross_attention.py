"""Two streams, each of which asks the other: attention both ways, added and normalised, side by side.

Source: the cross-modal attention of Tsai et al. (2019), Multimodal Transformer for Unaligned Multimodal Language
Sequences, one layer of it, on the clock of the first stream.
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
from train.numerics.sequences import Sequences


class CrossAttention(Fusion):
    """Each stream, and what the other answers to it."""

    most: ClassVar[int | None] = 2

    heads: int = Field(default=8, gt=0)
    """Number of attention heads; divides the width of the streams."""

    @override
    def build(self, widths: Mapping[str, int]) -> FusionModule:
        width = one_width(self, widths)
        check_heads(self.heads, width)
        return BothWays(width, self.heads)


class BothWays(FusionModule):
    """See `CrossAttention`."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attentions = nn.ModuleList(nn.MultiheadAttention(width, heads, batch_first=True) for _ in range(2))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.dim = 2 * width

    @override
    def forward(self, streams: dict[str, Sequences]) -> Sequences:
        first, second = streams.values()
        found = []
        pairs = ((first, second), (second, first))
        for attention, norm, (asking, other) in zip(self.attentions, self.norms, pairs, strict=True):
            assert isinstance(attention, nn.MultiheadAttention)
            found.append(norm(asking.values + attend(attention, asking.values, other)))
        return Sequences(torch.cat(found, dim=-1), first.mask)
