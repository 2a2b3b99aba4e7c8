"""A batch: what is stored of some utterances, on its way into a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from featurestore.format.codec import Frames
from featurestore.format.plan import Ints
from train.numerics.align import Alignment

Span = tuple[int, int]
"""From which frame of an utterance to which one, that one excluded."""


@dataclass(frozen=True)
class StreamBatch:
    """One stream of a batch.

    Attributes:
        frames: as they are stored, of each utterance that has the stream.
        lengths: frames of each of them, on the clock on which the fusion takes them.
        alignment: onto that clock, of each; None where the stream is on its own.
        there: which utterances of the batch have the stream, (batch,); None where all have it.
    """

    frames: list[Frames]
    lengths: list[int]
    alignment: list[Alignment] | None
    there: torch.Tensor | None = None

    def of_all(self, having: torch.Tensor) -> torch.Tensor:
        """Return what is of the utterances that have the stream, (having, …), for all, (batch, …): zeros of others."""
        if self.there is None:
            return having
        found = having.new_zeros(len(self.there), *having.shape[1:])
        found[self.there.to(found.device)] = having
        return found

    def align(self, packed: torch.Tensor) -> torch.Tensor:
        """Return the frames of all utterances, (frames, dim), on the clock on which the fusion takes them."""
        if self.alignment is None:
            return packed
        begins = np.cumsum([0, *(frames.values.shape[1] for frames in self.frames[:-1])])
        frame, other = (
            torch.from_numpy(np.concatenate([getattr(one, which) + begin for one, begin in self._placed(begins)]))
            for which in ("frame", "other")
        )
        weight = torch.from_numpy(np.concatenate([one.weight for one in self.alignment])).to(packed.device)
        covered = torch.from_numpy(np.concatenate([one.covered for one in self.alignment])).to(packed.device)
        found = packed[frame.to(packed.device)]
        if bool(weight.any()):
            found = torch.lerp(found, packed[other.to(packed.device)], weight[:, None].to(packed.dtype))
        return found * covered[:, None]

    def cut(self, spans: Sequence[Span]) -> StreamBatch:
        """Return what is heard from one to another frame of the clock, of each utterance."""
        lengths = [end - begin for begin, end in spans]
        if self.alignment is None:
            return StreamBatch(
                [_between(one, *span) for one, span in zip(self.frames, spans, strict=True)], lengths, None
            )
        frames, aligned = [], []
        for one, alignment, (begin, end) in zip(self.frames, self.alignment, spans, strict=True):
            frame, other = alignment.frame[begin:end], alignment.other[begin:end]
            first, last = int(min(frame.min(), other.min())), int(max(frame.max(), other.max()))
            frames.append(_between(one, first, last + 1))
            weight, covered = alignment.weight[begin:end], alignment.covered[begin:end]
            aligned.append(Alignment(frame - first, other - first, weight, covered))
        return StreamBatch(frames, lengths, aligned)

    def repeated(self, times: int) -> StreamBatch:
        """Return the utterances so many times, all after all."""
        alignment = None if self.alignment is None else self.alignment * times
        there = None if self.there is None else self.there.repeat(times)
        return StreamBatch(self.frames * times, self.lengths * times, alignment, there)

    def _placed(self, begins: Ints) -> list[tuple[Alignment, int]]:
        return list(zip(self.alignment or [], begins.tolist(), strict=True))


@dataclass(frozen=True)
class Batch:
    """Some utterances.

    Attributes:
        rows: positions in the examples, (batch,).
        streams: by name; the first gives the clock.
        targets: of each task.
    """

    rows: Ints
    streams: dict[str, StreamBatch]
    targets: dict[str, torch.Tensor]

    def cut(self, spans: Sequence[Span]) -> Batch:
        """Return what is heard from one to another frame of the clock, of each utterance."""
        return replace(self, streams={name: stream.cut(spans) for name, stream in self.streams.items()})


def _between(frames: Frames, begin: int, end: int) -> Frames:
    if end - begin == frames.values.shape[1]:
        return frames
    values: Any = frames.values[:, begin:end]
    values = values.contiguous() if isinstance(values, torch.Tensor) else np.ascontiguousarray(values)
    return replace(frames, values=values)
