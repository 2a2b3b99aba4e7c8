"""Which layers of a feature are read."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from featurestore.format.files import Array
from featurestore.format.shard import ALL

Layers = slice | int | Sequence[int] | npt.NDArray[np.integer[Any]] | None
"""The number of a layer, several numbers, a slice, or a truth value for each layer; None for all layers."""


def layer_range(layers: Layers, count: int) -> tuple[slice, slice | Array]:
    """Return the contiguous run of layers to read, and which of them are wanted."""
    if isinstance(layers, slice):
        return _range_of(range(count)[layers], count)
    if isinstance(layers, int):
        return _range_of(layers, count)
    chosen = np.atleast_1d(np.asarray(layers))
    if chosen.dtype == bool and chosen.shape == (count,):
        chosen = np.flatnonzero(chosen)
    if chosen.dtype.kind not in "iu" or chosen.ndim != 1:
        raise IndexError(
            f"found layers {layers}, expected numbers, a slice, or one truth value for each of the {count} layers"
        )
    return _range_of(tuple(chosen.tolist()), count)


@lru_cache(maxsize=256)  # without it a whole read takes three times as long
def _range_of(layers: int | range | tuple[int, ...], count: int) -> tuple[slice, slice | Array]:
    wanted = np.atleast_1d(np.array(layers, np.int64))
    if not isinstance(layers, range) and (wanted.size == 0 or wanted.min() < -count or wanted.max() >= count):
        raise IndexError(f"found layers {layers}, expected one or more of the layers 0 to {count - 1}")
    if wanted.size == 0:
        return slice(0, 1), wanted
    wanted = wanted % count
    run = slice(int(wanted.min()), int(wanted.max()) + 1)
    whole = wanted.size == run.stop - run.start and (np.diff(wanted) == 1).all()
    return run, ALL if whole else wanted - run.start
