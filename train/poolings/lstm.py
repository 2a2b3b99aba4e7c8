"""The last state of an LSTM."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import nn
from typing_extensions import override

from train.numerics.layers import WIDEST
from train.poolings import Pooling, PoolingModule


class LSTM(Pooling):
    """What an LSTM that reads the frames in their order holds at the last one."""

    hidden: int | None = Field(default=None, gt=0, le=WIDEST)
    """Its width; that of the frames when absent."""
    layers: int = Field(default=2, gt=0, le=16)
    """One upon another."""
    dropout: float = Field(default=0.5, ge=0, lt=1)
    """Share of the channels between its layers that each training step leaves out."""

    @override
    def build(self, dim: int) -> PoolingModule:
        return LastState(dim, self.hidden or dim, self.layers, self.dropout)


class LastState(PoolingModule):
    """See `LSTM`."""

    def __init__(self, dim: int, hidden: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.dim = hidden
        self.lstm = nn.LSTM(dim, hidden, layers, batch_first=True, dropout=dropout if layers > 1 else 0.0)

    @override
    def forward(self, frames: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        states, _ = self.lstm(frames)  # it looks at nothing that comes later, so the padding changes no state before
        last = (mask.sum(dim=1) - 1).clamp(min=0)
        found: torch.Tensor = states[torch.arange(len(states), device=states.device), last]
        return found
