"""The metadata documents of Zarr v3.

The layout is that of the Zarr v3 core specification (https://zarr-specs.readthedocs.io), so that any
reader opens a store. We write and read the bytes ourselves, for speed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from featurestore.format.layout import ArrayLayout

LITTLE = {"name": "bytes", "configuration": {"endian": "little"}}
ZSTD_LEVEL = 3


def array_document(shape: Sequence[int], dtype: npt.DTypeLike, dimensions: Sequence[str]) -> dict[str, Any]:
    """Return the ``zarr.json`` of an array of one chunk."""
    dtype = np.dtype(dtype)
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(shape),
        "data_type": dtype.name,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [max(1, n) for n in shape]}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0.0 if dtype.kind == "f" else False if dtype.kind == "b" else 0,
        "codecs": [LITTLE],
        "attributes": {},
        "dimension_names": list(dimensions),
    }


def sharded_document(layout: ArrayLayout, shards: int) -> dict[str, Any]:
    """Return the ``zarr.json`` of a sharded array."""
    layers, length, width = layout.shard
    codecs: list[dict[str, Any]] = [LITTLE]
    if layout.compress:
        blosc = {"cname": "zstd", "clevel": ZSTD_LEVEL, "shuffle": "shuffle"}
        codecs.append({"name": "blosc", "configuration": {**blosc, "typesize": layout.dtype.itemsize, "blocksize": 0}})
    sharding = {
        "chunk_shape": list(layout.chunk),
        "codecs": codecs,
        "index_codecs": [LITTLE, {"name": "crc32c"}],
        "index_location": "end",
    }
    document = array_document((layers, length * shards, width), layout.dtype, layout.axes)
    document["chunk_grid"]["configuration"]["chunk_shape"] = [max(1, n) for n in layout.shard]
    return {**document, "codecs": [{"name": "sharding_indexed", "configuration": sharding}]}


def group_document(attributes: dict[str, Any]) -> dict[str, Any]:
    """Return the ``zarr.json`` of a group."""
    return {"zarr_format": 3, "node_type": "group", "attributes": attributes}
