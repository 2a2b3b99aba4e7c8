"""The chunks of an utterance: a vector of each, and a chunk attention over them."""

from __future__ import annotations

from typing import Self

import torch
from pydantic import Field, model_validator
from typing_extensions import override

from featurestore.shared.errors import SerError
from train.curves.attentions import ChunkAttention
from train.curves.attentions.mean import Mean as EvenAttention
from train.curves.chunks import chunk_frames, chunk_starts, count_chunks, cut
from train.poolings import Pooling, PoolingModule
from train.poolings.mean import Mean


class Chunks(Pooling):
    """As many chunks of every utterance, each pooled alone, then weighed; the tasks ranking and sequence hear each."""

    seconds: float = Field(default=1.0, gt=0, le=3600)
    """Of a chunk; an utterance that is shorter is one chunk, as often as there are chunks."""
    longest: float = Field(default=11.0, gt=0, le=36_000)
    """Seconds of the longest utterance, from which the number of chunks follows: as many as cover it, times density."""
    density: int = Field(default=2, ge=1, le=100)
    """How many times as many chunks there are as cover the longest utterance without overlap."""
    legacy_floor: bool = False
    """Begin the chunks at the multiples of a whole number of frames, as was published: frames at the end are lost."""
    frames: int | None = Field(default=None, gt=0, le=1_000_000)
    """Of a chunk; when absent what ``seconds`` are on the clock."""
    each: Pooling = Mean()
    """From the frames of a chunk to its vector."""
    attention: ChunkAttention = EvenAttention()
    """How the chunks hear each other, and how much each counts."""

    @model_validator(mode="after")
    def _are_chunks(self) -> Self:
        if self.count < 2:
            raise ValueError(f"found {self.count} chunk of an utterance, expected two or more: seconds below longest")
        if isinstance(self.each, Chunks):
            raise ValueError("chunks of chunks: expected another pooling in each")
        return self

    @property
    def count(self) -> int:
        """The number of chunks of every utterance."""
        return count_chunks(self.longest, self.seconds, self.density)

    def on_clock(self, hop: float) -> Chunks:
        """Return them with the number of frames that they have on a clock.

        Raises:
            SerError: if there is no clock, and no number of frames is given.
        """
        if self.frames is None and not hop:
            raise SerError("pooling=chunks needs frames with a clock, or pooling.frames: the first stream has no clock")
        return self if self.frames else self.model_copy(update={"frames": chunk_frames(self.seconds, hop)})

    @override
    def build(self, dim: int) -> PoolingModule:
        return ChunkPooling(dim, self)


class ChunkPooling(PoolingModule):
    """See `Chunks`; the settings know how many frames a chunk has."""

    def __init__(self, dim: int, settings: Chunks) -> None:
        super().__init__()
        assert settings.frames is not None  # it is on a clock
        self.frames, self.count, self.legacy_floor = settings.frames, settings.count, settings.legacy_floor
        self.each = settings.each.build(dim)
        self.attention = settings.attention.build(self.each.dim)
        self.dim = self.attention.dim

    def by_chunk(self, frames: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return the vector of each chunk, and its weight as a last channel: (batch, chunks, dim + 1)."""
        starts = chunk_starts(mask.sum(dim=1).cpu().numpy(), self.frames, self.count, self.legacy_floor)
        chunks, there = cut(frames, mask, starts, self.frames)
        pooled = self.each(chunks.flatten(0, 1), there.flatten(0, 1)).unflatten(0, (-1, self.count))
        vectors, weights = self.attention(pooled)
        return torch.cat([vectors, weights[..., None]], dim=-1)

    @override
    def forward(self, frames: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        found = self.by_chunk(frames, mask)
        return torch.bmm(found[..., -1][:, None], found[..., :-1])[:, 0]
