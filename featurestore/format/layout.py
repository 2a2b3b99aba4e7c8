"""The paths and shapes of everything in a store, which the writer and the reader agree on; see FORMAT.md."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any
from urllib.parse import quote

import google_crc32c
import numpy as np

from featurestore.format.codec import ELEMENT, QUANTISED, bytes_per_frame, stored_width
from featurestore.format.plan import CHUNK_FRAMES, FeatureSpec, Ints, padded
from featurestore.shared.errors import StoreError

PLANNED = {"start": "int64", "frames": "int64", "time": "float64"}
"""The parts of a plan, and the type of each."""
POOLED = ("mean", "sd")
AFFINE = ("scale", "offset")
ROOT, SEAL = ("format", "dataset", "ranges", "table_sha256", "left_out"), "crc32c"
"""The attributes of the root, and the one that holds their checksum; others may be added."""
Shape = tuple[int, int, int]


@dataclass(frozen=True)
class ArrayLayout:
    """A sharded array of a feature: its shapes and element type.

    In a shard, the block of an utterance is (layers, its frames or its one slot, width) in C order, filled up to whole
    chunks, and begins at the byte ``first * row_bytes`` where ``first`` is its first frame (or slot) in the shard.

    Attributes:
        shard: the shape of a shard, (layers, frames or slots, width).
        chunk: the shape of a chunk in it.
        dtype: of the elements.
        compress: whether chunks are compressed; blocks are then shorter and have no fixed place.
        axes: the names of the axes.
    """

    shard: Shape
    chunk: Shape
    dtype: np.dtype[Any]
    compress: bool = False
    axes: tuple[str, str, str] = ("layer", "slot", "dim")

    @property
    def row_bytes(self) -> int:
        """The bytes of one frame with all its layers."""
        return self.shard[0] * self.shard[2] * self.dtype.itemsize

    @property
    def grid(self) -> tuple[int, int]:
        """The number of chunks of a shard, along layers and frames."""
        return self.shard[0] // self.chunk[0], self.shard[1] // self.chunk[1]

    @property
    def chunk_bytes(self) -> int:
        """The bytes of a chunk that is not compressed."""
        return prod(self.chunk) * self.dtype.itemsize

    def columns(self, count: int) -> int:
        """Return the number of chunks that ``count`` frames take up."""
        return -(-count // self.chunk[1])


def array_layouts(spec: FeatureSpec, shard_frames: int, slots: int) -> dict[str, ArrayLayout]:
    """Return the sharded arrays of a feature by name.

    Args:
        spec: the feature.
        shard_frames: frames in a shard.
        slots: utterances that a shard has room for.
    """
    width = stored_width(spec.dtype, spec.dim)
    data = ArrayLayout(
        (spec.layers, shard_frames, width),
        (1, CHUNK_FRAMES, width),
        np.dtype(ELEMENT[spec.dtype]),
        spec.compress is not None,
        ("layer", "frame", "byte" if spec.dtype == "int4" else "dim"),
    )
    shape, chunk = (spec.layers, slots, spec.dim), (spec.layers, 1, spec.dim)
    per_utterance = ArrayLayout(shape, chunk, np.dtype(np.float32))
    names = (*POOLED, *AFFINE) if spec.dtype in QUANTISED else POOLED
    return {"data": data, **dict.fromkeys(names, per_utterance)}


def column_path(column: str) -> str:
    """Return where a column of the utterance table is."""
    return f"table/{quote(column, safe=' ')}"


def feature_bytes(spec: FeatureSpec, frames: Ints) -> int:
    """Return the bytes that a feature takes up on the disk without compression."""
    chunks = int(padded(frames).sum()) // CHUNK_FRAMES * spec.layers
    per_utterance = len(POOLED) + (len(AFFINE) if spec.dtype in QUANTISED else 0)
    scales = len(frames) * spec.layers * spec.dim * per_utterance * np.dtype(np.float32).itemsize
    data = int(padded(frames).sum()) * bytes_per_frame(spec.dtype, spec.layers, spec.dim)
    return data + scales + 16 * (chunks + len(frames) * per_utterance)


def free_bytes(path: Path) -> int:
    """Return the bytes that are free on the disk on which ``path`` is, or will be."""
    there = path.absolute()
    while not there.exists():
        there = there.parent
    return shutil.disk_usage(there).free


def describe_bytes(count: float) -> str:
    """Return a size with a suitable unit.

    >>> [describe_bytes(count) for count in (12, 4_096, 2_500_000, 31_530_000_000)]
    ['12 B', '4.1 kB', '2.5 MB', '31.53 GB']
    """
    if count >= 1e9:
        return f"{count / 1e9:.2f} GB"
    if count >= 1e5:
        return f"{count / 1e6:.1f} MB"
    return f"{count / 1e3:.1f} kB" if count >= 1e3 else f"{count:.0f} B"


def plan_checksums(spec: FeatureSpec, planned: Mapping[str, np.ndarray]) -> dict[str, int]:
    """Return the CRC-32C of the attributes of a feature, and of each array that says where its frames lie."""
    arrays = {array: int(google_crc32c.value(values.tobytes())) for array, values in planned.items()}
    return {"attributes": json_checksum(spec.to_dict()), **arrays}


def check_plan(found: Mapping[str, int], expected: Mapping[str, int], feature: str) -> None:
    """Compare `plan_checksums` with those in the manifest; that of the attributes is missing in older stores.

    Raises:
        StoreError: naming what has changed.
    """
    changed = [part for part, checksum in expected.items() if found.get(part) != checksum]
    if changed:
        raise StoreError(f"{', '.join(changed)} of {feature} changed since it was written")


def json_checksum(document: Any) -> int:
    """Return the CRC-32C of JSON without spaces, its keys in alphabetical order."""
    text = json.dumps(document, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return int(google_crc32c.value(text.encode()))


def sealed(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes of the root with their own checksum."""
    return {**attributes, SEAL: json_checksum({key: attributes.get(key) for key in ROOT})}


def is_sealed(attributes: Mapping[str, Any]) -> bool:
    """Return whether the attributes of the root are as they were written; true in older stores, which do not say."""
    return SEAL not in attributes or attributes == sealed(attributes)
