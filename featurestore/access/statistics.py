"""Statistics of a whole corpus, with dask: any number of frames in bounded memory."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from featurestore.access.feature import FeatureStore
from featurestore.format.codec import Floats
from featurestore.shared.errors import StoreError

BLOCK_FRAMES = 2000
"""About how many frames are decoded at once: some 200 MB of a large encoder."""
POOLED_FRAMES = 100_000
"""About how many frames the utterances have whose pooled statistics are merged at once: as many bytes."""


def to_dask(feature: FeatureStore, names: Sequence[str]) -> Any:
    """Return the frames of some utterances as one dask array (layers, frames, dim) of float32, in the order of names.

    Args:
        feature: the feature.
        names: of the utterances.

    Raises:
        StoreError: if there is no utterance, or one has no frames.
    """
    import dask.array as da
    from dask.delayed import delayed

    if not names:
        raise StoreError(f"found no utterance, expected one or more to read {feature.name} of")
    for name in names:
        feature.block(name)  # an error now if it is missing, and not when the graph runs
    read = delayed(_read, pure=False)
    layers, dim = feature.spec.layers, feature.spec.dim
    blocks = [
        da.from_delayed(read(feature, group), (layers, sum(feature.frames(name) for name in group), dim), np.float32)
        for group in _groups(feature, names, BLOCK_FRAMES)
    ]
    return da.concatenate(blocks, axis=1)


class Pooled(Protocol):
    """A feature whose means and standard deviations over time are stored."""

    @property
    def name(self) -> str:
        """The name of the feature."""

    def frames(self, name: str) -> int:
        """Return the number of frames of an utterance."""

    def pooled(self, names: Sequence[str]) -> tuple[Floats, Floats]:
        """Return the mean and standard deviation over time, each (utterances, layers, dim)."""


def corpus_statistics(feature: Pooled, names: Sequence[str]) -> tuple[Floats, Floats]:
    """Return the mean and standard deviation over all frames of some utterances, each (layers, dim).

    They come from the pooled statistics of the utterances, without reading a frame; groups of utterances are merged
    as in Chan, Golub and LeVeque 1979, so that large means cost no precision.

    Raises:
        StoreError: if there is no utterance, or one has no frames.
    """
    from dask.delayed import delayed

    if not names:
        raise StoreError(f"found no utterance, expected one or more to read {feature.name} of")
    moments, merge = delayed(_moments, pure=False), delayed(_merge, pure=False)
    found = [moments(feature, group) for group in _groups(feature, names, POOLED_FRAMES)]
    while len(found) > 1:
        pairs = [merge(a, b) for a, b in zip(found[::2], found[1::2], strict=False)]
        found = pairs + found[len(pairs) * 2 :]
    count, mean, squares = found[0].compute(scheduler="threads")
    return mean.astype(np.float32), np.sqrt(squares / count).astype(np.float32)


Moments = tuple[int, npt.NDArray[np.float64], npt.NDArray[np.float64]]


def _groups(feature: Pooled, names: Sequence[str], frames: int) -> list[list[str]]:
    """Cut ``names`` into runs of about so many frames."""
    ends = np.cumsum([feature.frames(name) for name in names])
    numbered = groupby(zip(names, (ends // frames).tolist(), strict=True), key=lambda pair: pair[1])
    return [[name for name, _ in group] for _, group in numbered]


def _read(feature: FeatureStore, names: list[str]) -> Floats:
    return np.concatenate([feature.read(name).decode() for name in names], axis=1)


def _moments(feature: Pooled, names: list[str]) -> Moments:
    """Return the number of frames, their mean, and the sum of their squared deviations from it."""
    counts = np.array([feature.frames(name) for name in names], np.int64)
    means, sds = (values.astype(np.float64) for values in feature.pooled(names))
    weights = counts[:, None, None]
    mean = (means * weights).sum(axis=0) / counts.sum()
    squares = ((sds**2 + (means - mean) ** 2) * weights).sum(axis=0)
    return int(counts.sum()), mean, squares


def _merge(one: Moments, other: Moments) -> Moments:
    (n, mean, squares), (m, mean_other, squares_other) = one, other
    step = mean_other - mean
    total = n + m
    return total, mean + step * (m / total), squares + squares_other + step**2 * (n * m / total)
