"""Statistics of a whole corpus, with dask: any number of frames in bounded memory."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt

from featurestore.codec import Floats
from featurestore.errors import StoreError
from featurestore.feature import FeatureStore

BLOCK_FRAMES = 2000
"""Frames that are decoded together, about: some 200 MB of a large encoder."""


def to_dask(part: FeatureStore, names: Sequence[str]) -> Any:
    """Return the frames of some utterances as one dask array (layers, frames, dim) of float32, in the order of names.

    Args:
        part: the feature.
        names: of the utterances.

    Raises:
        StoreError: if there is no utterance, or one has no frames.
    """
    import dask.array as da
    from dask.delayed import delayed

    if not names:
        raise StoreError(f"no utterance to read {part.name} of")
    for name in names:
        part.block(name)  # it must be there, and not only when the graph runs
    read = delayed(_read, pure=True)
    layers, dim = part.spec.layers, part.spec.dim
    blocks = [
        da.from_delayed(read(part, group), (layers, sum(part.frames(name) for name in group), dim), np.float32)
        for group in _groups(part, names)
    ]
    return da.concatenate(blocks, axis=1)


def corpus_statistics(part: FeatureStore, names: Sequence[str]) -> tuple[Floats, Floats]:
    """Return the mean and standard deviation over all frames of some utterances, each (layers, dim).

    Every block gives its count, mean and sum of squared deviations, which are merged pairwise (Chan, Golub and LeVeque
    1979), so that large means cost no precision.
    """
    from dask.delayed import delayed

    if not names:
        raise StoreError(f"no utterance to read {part.name} of")
    moments, merge = delayed(_moments, pure=True), delayed(_merge, pure=True)
    found = [moments(part, group) for group in _groups(part, names)]
    while len(found) > 1:
        pairs = [merge(a, b) for a, b in zip(found[::2], found[1::2], strict=False)]
        found = pairs + found[len(pairs) * 2 :]
    count, mean, squares = found[0].compute(scheduler="threads")
    return mean.astype(np.float32), np.sqrt(squares / count).astype(np.float32)


Moments = tuple[int, npt.NDArray[np.float64], npt.NDArray[np.float64]]


def _groups(part: FeatureStore, names: Sequence[str]) -> list[list[str]]:
    """Cut ``names`` into runs of about `BLOCK_FRAMES` frames."""
    ends = np.cumsum([part.frames(name) for name in names])
    numbered = groupby(zip(names, (ends // BLOCK_FRAMES).tolist(), strict=True), key=lambda pair: pair[1])
    return [[name for name, _ in group] for _, group in numbered]


def _read(part: FeatureStore, names: list[str]) -> Floats:
    return np.concatenate([part.read(name).decode() for name in names], axis=1)


def _moments(part: FeatureStore, names: list[str]) -> Moments:
    frames = _read(part, names)
    mean = frames.mean(axis=1, dtype=np.float64)
    centred = frames - mean[:, None].astype(np.float32)
    rest = centred.mean(axis=1, dtype=np.float64)  # what the rounded mean leaves
    squares = np.einsum("ltd,ltd->ld", centred, centred, dtype=np.float64) - frames.shape[1] * rest**2
    return frames.shape[1], mean, squares


def _merge(one: Moments, other: Moments) -> Moments:
    (n, mean, squares), (m, mean_other, squares_other) = one, other
    step = mean_other - mean
    total = n + m
    return total, mean + step * (m / total), squares + squares_other + step**2 * (n * m / total)
