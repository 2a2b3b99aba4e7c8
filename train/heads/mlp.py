"""One hidden layer."""

from __future__ import annotations

from pydantic import Field
from torch import nn
from typing_extensions import override

from train.heads import Head
from train.numerics.layers import WIDEST


class MLP(Head):
    """Linear, ReLU, dropout, linear."""

    hidden: int = Field(default=128, gt=0, le=WIDEST)
    """Width of the hidden layer."""
    dropout: float = Field(default=0.5, ge=0, lt=1)
    """Share of hidden units that each training step leaves out."""

    @override
    def build(self, dim: int, outputs: int) -> nn.Module:
        return nn.Sequential(
            nn.Linear(dim, self.hidden), nn.ReLU(), nn.Dropout(self.dropout), nn.Linear(self.hidden, outputs)
        )
