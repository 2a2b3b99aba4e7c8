"""Which utterances share a batch, and in which order the batches come."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from featurestore.format.plan import Ints

BUCKET_BATCHES = 16
"""Batches whose utterances are sorted by length together, so that a batch has little padding."""
WINDOW_SHARDS = 8
"""Shards whose utterances are shuffled together where shards are kept apart."""


def batch_order(
    lengths: Sequence[int] | Ints,
    *,
    frames: int | None = None,
    utterances: int | None = None,
    seed: int | None = None,
    groups: Ints | None = None,
) -> list[Ints]:
    """Return positions in batches of similar length; with a seed in random order, the same for the same seed.

    Args:
        lengths: of the utterances, in frames.
        frames: the most frames in a batch, padding included.
        utterances: their number in a batch, instead of ``frames``.
        seed: of the order; when absent the order is by length.
        groups: the shard of each utterance; utterances of `WINDOW_SHARDS` shards at a time are mixed.

    >>> [batch.tolist() for batch in batch_order([5, 9, 4, 30, 6], utterances=2)]
    [[2, 0], [4, 1], [3]]
    >>> [batch.tolist() for batch in batch_order([5, 9, 4, 30, 6], frames=18)]
    [[2, 0, 4], [1], [3]]
    """
    if (frames is None) == (utterances is None):
        raise ValueError(f"expected one of frames and utterances, found frames={frames} and utterances={utterances}")
    if not (frames or utterances or 0) >= 1:
        raise ValueError(f"expected a batch of 1 or more, found frames={frames} and utterances={utterances}")
    lengths = np.asarray(lengths, np.int64)
    if not len(lengths):
        return []
    if seed is None:
        return _fill(np.argsort(lengths, kind="stable"), lengths, frames, utterances)
    rng = np.random.default_rng(seed)
    if groups is None:
        windows = [rng.permutation(len(lengths))]
    else:
        numbers = rng.permutation(np.unique(groups))
        windows = [
            rng.permutation(np.flatnonzero(np.isin(groups, numbers[i : i + WINDOW_SHARDS])))
            for i in range(0, len(numbers), WINDOW_SHARDS)
        ]
    batches = []
    for window in windows:
        size = utterances or max(1, round((frames or 1) / max(1.0, float(lengths[window].mean()))))
        in_window: list[Ints] = []
        for start in range(0, len(window), size * BUCKET_BATCHES):
            bucket = window[start : start + size * BUCKET_BATCHES]
            bucket = bucket[np.argsort(lengths[bucket], kind="stable")]
            in_window += _fill(bucket, lengths, frames, utterances)
        batches += [in_window[i] for i in rng.permutation(len(in_window))]
    return batches


def _fill(order: Ints, lengths: Ints, frames: int | None, utterances: int | None) -> list[Ints]:
    """Cut ``order``, in which lengths rise, into batches."""
    if utterances is not None:
        return [order[i : i + utterances] for i in range(0, len(order), utterances)]
    cuts, begin = [0], 0
    for i, length in enumerate(lengths[order].tolist()):
        if i > begin and (i + 1 - begin) * length > (frames or 0):
            begin = i
            cuts.append(i)
    return [order[a:b] for a, b in zip(cuts, [*cuts[1:], len(order)], strict=True) if b > a]
