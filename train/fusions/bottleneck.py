"""Streams that tell each other only what fits through a few shared tokens.

Source: Nagrani, Yang, Arnab, Jansen, Schmid and Sun (2021), Attention Bottlenecks for Multimodal Fusion, NeurIPS. In
each layer every stream attends to itself and to the tokens; of the tokens that come out of them the mean goes on.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from pydantic import Field
from torch import nn
from typing_extensions import override

from train.fusions import Fusion, FusionModule, check_heads, one_width
from train.numerics.layers import WIDEST
from train.numerics.sequences import Sequences


class Bottleneck(Fusion):
    """Layers of a transformer for each stream, with tokens in common; all streams side by side in the end."""

    tokens: int = Field(default=4, ge=1, le=1024)
    """That all streams have in common."""
    layers: int = Field(default=2, ge=1, le=32)
    """One upon another."""
    heads: int = Field(default=4, gt=0)
    """Number of attention heads; divides the width of the streams."""
    hidden: int = Field(default=256, gt=0, le=WIDEST)
    """Units of the layer of each frame."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Share of what each part gives that a training step leaves out."""

    @override
    def build(self, widths: Mapping[str, int]) -> FusionModule:
        width = one_width(self, widths)
        check_heads(self.heads, width)
        return ThroughTokens(width, len(widths), self)


class ThroughTokens(FusionModule):
    """See `Bottleneck`."""

    def __init__(self, width: int, streams: int, settings: Bottleneck) -> None:
        super().__init__()
        self.tokens = nn.Parameter(0.02 * torch.randn(settings.tokens, width))
        self.layers = nn.ModuleList(
            nn.ModuleList(
                nn.TransformerEncoderLayer(
                    width, settings.heads, settings.hidden, settings.dropout, "gelu", batch_first=True
                )
                for _ in range(streams)
            )
            for _ in range(settings.layers)
        )
        self.dim = streams * width

    @override
    def forward(self, streams: dict[str, Sequences]) -> Sequences:
        values, masks = zip(*streams.values(), strict=True)
        count, shared = len(self.tokens), self.tokens.expand(len(masks[0]), -1, -1)
        absent = [nn.functional.pad(~mask, (count, 0), value=False) for mask in masks]
        for layers in self.layers:
            assert isinstance(layers, nn.ModuleList)
            found = [
                layer(torch.cat([shared.to(value.dtype), value], dim=1), src_key_padding_mask=gone)
                for layer, value, gone in zip(layers, values, absent, strict=True)
            ]
            shared = torch.stack([one[:, :count] for one in found]).mean(dim=0)
            values = tuple(one[:, count:] for one in found)
        return Sequences(torch.cat(values, dim=-1), masks[0])
