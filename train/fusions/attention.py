"""Multi-head attention in which the other streams ask and the first one answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812, the field's name for it
from pydantic import Field
from torch import nn
from typing_extensions import override

from featurestore.shared.errors import SerError
from train.fusions import Fusion, FusionModule, check_heads, one_width
from train.numerics.sequences import Sequences


class Attention(Fusion):
    """The sum of the others is the query, the first stream is key and value."""

    heads: int = Field(default=8, gt=0)
    """Number of attention heads; divides the width of the streams."""
    residual: bool = True
    """Add the query and normalise (LayerNorm), so that it reaches the head itself; false is the plain form."""
    clocks: Literal["first", "own"] = "first"
    """``first``: the query is brought onto the clock of the first stream; ``own``: it keeps its own, as text must."""

    @property
    @override
    def own_clocks(self) -> bool:
        return self.clocks == "own"

    @property
    @override
    def clock(self) -> int:
        return 1 if self.own_clocks else 0

    @override
    def build(self, widths: Mapping[str, int]) -> FusionModule:
        width = one_width(self, widths)
        check_heads(self.heads, width)
        if self.own_clocks and len(widths) != 2:
            raise SerError(f"fusion.clocks=own takes one stream beside the first, found {len(widths) - 1}")
        return QueryAttention(width, self)


class QueryAttention(FusionModule):
    """See `Attention`."""

    def __init__(self, width: int, settings: Attention) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, settings.heads, batch_first=True)
        self.norm = nn.LayerNorm(width) if settings.residual else None
        self.dim = width

    @override
    def forward(self, streams: dict[str, Sequences]) -> Sequences:
        first, *others = streams.values()
        query = others[0].values if len(others) == 1 else torch.stack([other.values for other in others]).sum(dim=0)
        answer = attend(self.attention, query, first)
        return Sequences(self.norm(query + answer) if self.norm else answer, others[0].mask)


def attend(attention: nn.MultiheadAttention, query: torch.Tensor, answers: Sequences) -> torch.Tensor:
    """Return what the module does, bit for bit, without its copies of sequences: in a tenth less time.

    Args:
        attention: of one width, without dropout.
        query: (batch, time, width).
        answers: keys and values.
    """
    width, heads = attention.embed_dim, attention.num_heads
    weight, bias = attention.in_proj_weight, attention.in_proj_bias
    asked = F.linear(query, weight[:width], bias[:width]).unflatten(-1, (heads, -1)).transpose(1, 2)
    both = F.linear(answers.values, weight[width:], bias[width:]).unflatten(-1, (2, heads, -1))
    key, value = both.permute(2, 0, 3, 1, 4).unbind(0)
    absent = None
    if not bool(answers.mask.all()):
        absent = torch.zeros_like(answers.mask, dtype=asked.dtype).masked_fill_(~answers.mask, -torch.inf)[
            :, None, None
        ]
    answer = F.scaled_dot_product_attention(asked, key, value, absent).transpose(1, 2).flatten(2)
    return F.linear(answer, attention.out_proj.weight, attention.out_proj.bias)
