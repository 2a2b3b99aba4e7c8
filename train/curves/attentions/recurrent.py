"""An LSTM over the chunks, whose last state asks the others."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn
from typing_extensions import override

from train.curves.attentions import ChunkAttention, ChunkAttentionModule


class Recurrent(ChunkAttention):
    """An LSTM hears the chunks in their order; its last state weighs all its states (Luong, Pham and Manning 2015)."""

    weighs: ClassVar[bool] = True

    @override
    def build(self, dim: int) -> ChunkAttentionModule:
        return RecurrentAttention(dim)


class RecurrentAttention(ChunkAttentionModule):
    """See `Recurrent`."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.lstm = nn.LSTM(dim, dim, batch_first=True)
        self.asks = nn.Linear(dim, dim, bias=False)

    @override
    def forward(self, vectors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        states, _ = self.lstm(vectors)
        scores = torch.bmm(states, self.asks(states[:, -1])[..., None])[..., 0]
        return states, (scores / self.dim**0.5).softmax(dim=1)
