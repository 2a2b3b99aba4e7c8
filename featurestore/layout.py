"""Where everything in a store is: the paths and shapes that the writer and the reader agree on.

NAME.zarr/zarr.json                 format version, dataset, ranges of the labels, digest of the table, left out
NAME.zarr/table/COLUMN              one array per column of the utterance table
NAME.zarr/features/FEATURE/zarr.json            the feature's spec
NAME.zarr/features/FEATURE/start, frames, time  per utterance: place and number of frames, time of the first
NAME.zarr/features/FEATURE/data                 [layer, frame, dim]
NAME.zarr/features/FEATURE/scale, offset        [layer, slot, dim], for int8
NAME.zarr/features/FEATURE/mean, sd             [layer, slot, dim], over time
NAME.zarr/features/FEATURE/shards/N.json        checksums of shard N's files, and what failed in it
NAME.zarr/features/FEATURE/manifest.json        all of these, written last: the feature is complete
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from featurestore.plan import CHUNK_FRAMES, FeatureSpec
from featurestore.zarr3 import array_metadata

PLANNED = ("start", "frames", "time")
POOLED = ("mean", "sd")
AFFINE = ("scale", "offset")
AXES = ("layer", "frame", "dim")


@dataclass(frozen=True)
class ArrayLayout:
    """A sharded array of a feature: its shapes and dtype.

    Attributes:
        shard: the shape of a shard, (layers, frames or slots, dim).
        chunk: the shape of a chunk in it.
        dtype: of the elements.
    """

    shard: tuple[int, int, int]
    chunk: tuple[int, int, int]
    dtype: np.dtype[Any]

    def metadata(self, shards: int) -> dict[str, Any]:
        """Return the ``zarr.json`` of the array."""
        layers, length, dim = self.shard
        axes = AXES if self.chunk[0] == 1 else ("layer", "slot", "dim")
        return array_metadata((layers, length * shards, dim), self.dtype, axes, self.shard, self.chunk)


def array_layouts(spec: FeatureSpec, shard_frames: int, slots: int) -> dict[str, ArrayLayout]:
    """Return the sharded arrays of a feature by name.

    Args:
        spec: the feature.
        shard_frames: frames in a shard.
        slots: utterances that a shard has room for.
    """
    frames = ArrayLayout((spec.layers, shard_frames, spec.dim), (1, CHUNK_FRAMES, spec.dim), np.dtype(spec.dtype))
    shape, chunk = (spec.layers, slots, spec.dim), (spec.layers, 1, spec.dim)
    per_utterance = ArrayLayout(shape, chunk, np.dtype(np.float32))
    names = (*POOLED, *AFFINE) if spec.dtype == "int8" else POOLED
    return {"data": frames, **dict.fromkeys(names, per_utterance)}


def shard_path(feature: Path, array: str, shard: int) -> Path:
    """Return the file of a shard."""
    return feature / array / "c/0" / str(shard) / "0"
