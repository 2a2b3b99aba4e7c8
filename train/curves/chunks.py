"""Dynamic chunks: the same number of pieces of one length of every utterance, evenly overlapping, to the last frame."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch

from featurestore.format.plan import Ints, Seconds
from featurestore.shared.errors import SerError

ROUNDING = 1e-6
"""Of a quotient of seconds, which is not exact."""


def count_chunks(longest: float, seconds: float, density: int) -> int:
    """Return the number of chunks of every utterance: N = n ceil(T_max / w).

    Args:
        longest: T_max, the seconds of the longest utterance.
        seconds: w, of a chunk.
        density: n, how many times as many chunks there are as would fit without overlap.

    >>> count_chunks(11.0, 1.0, 2)
    22
    """
    return density * math.ceil(longest / seconds - ROUNDING)


def chunk_frames(seconds: float, hop: float) -> int:
    """Return the frames of a chunk on a clock, at least one; what is left of a frame does not count.

    >>> chunk_frames(1.0, 0.02), chunk_frames(1.0, 0.016)
    (50, 62)
    """
    return max(1, int(seconds / hop + ROUNDING))


def chunk_starts(lengths: npt.ArrayLike, frames: int, count: int, legacy_floor: bool = False) -> Ints:
    """Return the first frame of each chunk: round(k (L - m) / (N - 1)), so that the last one ends with the utterance.

    Args:
        lengths: L, of the utterances, (...); one that is shorter than a chunk has all of them at its beginning.
        frames: m, of a chunk.
        count: N, at least two.
        legacy_floor: whether they begin k floor((L - m) / (N - 1)) frames in, as was published: then up to N - 2 frames
            at the end are in no chunk.

    Returns:
        (..., count).

    Raises:
        SerError: if there are fewer than two chunks.

    >>> chunk_starts(150, 50, 22)[:6].tolist(), chunk_starts(150, 50, 22, legacy_floor=True)[:3].tolist()
    ([0, 5, 10, 14, 19, 24], [0, 4, 8])
    """
    if count < 2:
        raise SerError(f"found {count} chunk, expected two or more: the first begins and the last ends an utterance")
    room = np.maximum(np.asarray(lengths, np.int64) - frames, 0)[..., None]
    number, gaps = np.arange(count, dtype=np.int64), count - 1
    return number * (room // gaps) if legacy_floor else (2 * number * room + gaps) // (2 * gaps)


def cut(values: torch.Tensor, mask: torch.Tensor, starts: Ints, frames: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the chunks of a batch, (batch, time, dim) -> (batch, chunks, frames, dim), and their masks.

    Each frame of a chunk is copied once; one of an utterance that is shorter than a chunk is padded.

    Args:
        values: of padded utterances.
        mask: which frames are there, (batch, time).
        starts: of the chunks, (batch, chunks); see `chunk_starts`.
        frames: of a chunk.
    """
    lacking = frames - values.shape[1]
    if lacking > 0:
        values, mask = torch.nn.functional.pad(values, (0, 0, 0, lacking)), torch.nn.functional.pad(mask, (0, lacking))
    utterances = torch.arange(len(values), device=values.device)[:, None, None]
    first = torch.from_numpy(starts).to(values.device)[..., None]
    places = first + torch.arange(frames, device=values.device)  # the gradient of a view of all windows has its size
    return values[utterances, places], mask[utterances, places]


def chunk_times(times: Seconds, frames: int, count: int, legacy_floor: bool = False) -> Seconds:
    """Return when each chunk of an utterance begins, is in its middle, and ends, in seconds, (count, 3).

    What a first frame hears of the time before the utterance does not count.

    Args:
        times: of the middles of the frames, (frames,).
        frames: of a chunk.
        count: of chunks.
        legacy_floor: see `chunk_starts`.
    """
    first = chunk_starts(len(times), frames, count, legacy_floor)
    last = np.minimum(first + frames, len(times)) - 1
    half = (times[1] - times[0]) / 2 if len(times) > 1 else 0.0
    begins, ends = times[first] - half, times[last] + half
    return np.stack([np.maximum(begins, 0), (begins + ends) / 2, ends], axis=-1)
