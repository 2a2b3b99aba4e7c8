"""Multi-head attention in which the other streams ask and the first one answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import Field
from torch import nn

from featurestore.errors import SerError
from train.fusions import Fusion, FusionModule
from train.sequences import Sequences


class Attention(Fusion):
    """The sum of the others is the query, the first stream is key and value."""

    heads: int = Field(default=8, gt=0)
    """Number of attention heads; divides the width of the streams."""
    residual: bool = True
    """Add the query and normalise (LayerNorm), so that it reaches the head itself; false is the plain form."""
    clocks: Literal["first", "own"] = "first"
    """``first``: the query is brought onto the clock of the first stream; ``own``: it keeps its own, as text must."""

    @property
    def own_clocks(self) -> bool:  # noqa: D102
        return self.clocks == "own"

    def build(self, widths: Mapping[str, int]) -> FusionModule:  # noqa: D102
        first, *others = widths.values()
        if any(width != first for width in others):
            raise SerError(f"fusion=attention takes streams of one width, found {', '.join(map(str, widths.values()))}")
        if first % self.heads:
            raise SerError(f"fusion.heads ({self.heads}) must divide the width of the streams ({first})")
        if self.own_clocks and len(others) != 1:
            raise SerError(f"fusion.clocks=own takes one stream beside the first, found {len(others)}")
        return QueryAttention(first, self)


class QueryAttention(FusionModule):
    """See `Attention`."""

    def __init__(self, width: int, settings: Attention) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, settings.heads, batch_first=True)
        self.norm = nn.LayerNorm(width) if settings.residual else None
        self.dim = width

    def forward(self, streams: dict[str, Sequences]) -> Sequences:  # noqa: D102
        first, *others = streams.values()
        query = others[0].values if len(others) == 1 else torch.stack([other.values for other in others]).sum(dim=0)
        absent = None if bool(first.mask.all()) else ~first.mask
        answer, _ = self.attention(query, first.values, first.values, key_padding_mask=absent, need_weights=False)
        return Sequences(self.norm(query + answer) if self.norm else answer, others[0].mask)
