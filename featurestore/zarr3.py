"""The metadata documents of Zarr v3, and small files that are either there whole or not at all.

The layout is that of the Zarr v3 core specification (https://zarr-specs.readthedocs.io), so that any
reader opens a store; we write and read the bytes ourselves because a store is only as fast as that.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from featurestore.layout import ArrayLayout

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


def as_json(document: Any) -> bytes:
    """Return ``document`` so that the same content always gives the same bytes."""
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def write_file(file: Path, content: bytes) -> None:
    """Write a file that is either there whole, on the disk, or not there at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        with naming(temporary), open(temporary, "wb") as handle:
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
        publish(temporary, file)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Name the file in an error of writing to it: that the disk is full comes without."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            raise OSError(error.errno, error.strerror, str(path)) from None
        raise


def publish(temporary: Path, path: Path) -> None:
    """Give a finished file or folder its name, and let the disk know of it."""
    os.rename(temporary, path)
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Let the disk know which names a folder has."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
