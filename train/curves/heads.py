"""A head that all chunks of an utterance share."""

from __future__ import annotations

import torch
from torch import nn
from typing_extensions import override


class ChunkHead(nn.Module):
    """Chunks (batch, chunks, dim + 1), see `train.poolings.chunks.ChunkPooling.by_chunk`, to the outputs of a task.

    Those of the utterance are the weighted mean of those of its chunks: (batch, outputs).

    Args:
        head: from (batch, dim) to (batch, outputs).
        each: whether those of each chunk follow: (batch, (1 + chunks) outputs).
    """

    def __init__(self, head: nn.Module, each: bool) -> None:
        super().__init__()
        self.head, self.each = head, each

    @override
    def forward(self, chunks: torch.Tensor) -> torch.Tensor:
        outputs = self.head(chunks[..., :-1].flatten(0, 1)).unflatten(0, chunks.shape[:2])
        whole = (chunks[..., -1:] * outputs).sum(dim=1, keepdim=True)
        return (torch.cat([whole, outputs], dim=1) if self.each else whole).flatten(1)


def by_place(outputs: torch.Tensor, targets: int) -> torch.Tensor:
    """Return outputs (..., places x targets) as (..., places, targets): first the utterance, then its chunks."""
    return outputs.unflatten(-1, (-1, targets))
