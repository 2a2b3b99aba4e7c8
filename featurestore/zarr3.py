"""Plain Zarr v3 on disk: the metadata documents, whole arrays in one chunk, and atomic files.

The layout is that of the Zarr v3 core specification (https://zarr-specs.readthedocs.io), so that any
reader opens a store; we write and read the bytes ourselves because a store is only as fast as that.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import numpy.typing as npt

from featurestore.errors import StoreError

PIECE = 1 << 24
Array = npt.NDArray[Any]


def array_metadata(
    shape: Sequence[int],
    dtype: npt.DTypeLike,
    dimensions: Sequence[str],
    shard: Sequence[int] | None = None,
    chunk: Sequence[int] | None = None,
) -> dict[str, Any]:
    """Return the ``zarr.json`` of an array: one chunk, or shards that hold inner chunks.

    Args:
        shape: the array's shape.
        dtype: of the elements; stored little-endian.
        dimensions: the name of each axis.
        shard: the shape of a shard (a file); the whole array when absent.
        chunk: the shape of the chunks inside a shard; needs ``shard``.
    """
    dtype = np.dtype(dtype)
    codecs: list[dict[str, Any]] = [{"name": "bytes", "configuration": {"endian": "little"}}]
    if chunk is not None:
        index_codecs = [*codecs, {"name": "crc32c"}]
        sharding = {
            "chunk_shape": list(chunk),
            "codecs": codecs,
            "index_codecs": index_codecs,
            "index_location": "end",
        }
        codecs = [{"name": "sharding_indexed", "configuration": sharding}]
    grid = [max(1, n) for n in (shard or shape)]
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(shape),
        "data_type": dtype.name,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": grid}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0.0 if dtype.kind == "f" else False if dtype.kind == "b" else 0,
        "codecs": codecs,
        "attributes": {},
        "dimension_names": list(dimensions),
    }


def write_group(folder: Path, attributes: Mapping[str, Any] | None = None) -> None:
    """Make ``folder`` a Zarr group."""
    document = {"zarr_format": 3, "node_type": "group", "attributes": dict(attributes or {})}
    write_json(folder / "zarr.json", document)


def write_array(folder: Path, values: Array, dimension: str) -> None:
    """Write the one-dimensional ``values`` as an array of one chunk."""
    write_json(folder / "zarr.json", array_metadata(values.shape, values.dtype, [dimension]))
    if values.size:
        write_file(folder / "c/0", np.ascontiguousarray(values).astype(values.dtype.newbyteorder("<")).tobytes())


def read_array(folder: Path) -> Array:
    """Return a one-dimensional array that `write_array` wrote.

    Raises:
        StoreError: if its bytes do not fill its shape.
    """
    metadata = read_json(folder / "zarr.json")
    dtype, (size,) = np.dtype(metadata["data_type"]), metadata["shape"]
    if size == 0:
        return np.empty(0, dtype)
    file = folder / "c/0"
    values = np.fromfile(file, dtype.newbyteorder("<"))
    if values.size != size:
        raise StoreError(f"{file} holds {values.size} elements, expected {size}: the file is damaged")
    return values.astype(dtype, copy=False)


def read_json(file: Path) -> Any:
    """Return the content of a JSON file.

    Raises:
        StoreError: if it is absent or not JSON.
    """
    try:
        return json.loads(file.read_bytes())
    except FileNotFoundError:
        raise StoreError(f"no {file}") from None
    except ValueError as error:
        raise StoreError(f"{file} is damaged: {error}") from None


def write_json(file: Path, document: Any) -> None:
    """Write ``document`` so that the same content always gives the same bytes."""
    text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False)
    write_file(file, text.encode() + b"\n")


def write_file(file: Path, content: bytes) -> None:
    """Write a file that is either there whole, on the disk, or not there at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    with open(temporary, "wb") as handle:
        handle.write(content)
        handle.flush()
        os.fsync(handle.fileno())
    publish(temporary, file)


def checksum(file: Path) -> dict[str, int]:
    """Return the length of a file and its CRC-32C: ``bytes`` and ``crc32c``."""
    size, crc = 0, 0
    with file.open("rb") as handle:
        while piece := handle.read(PIECE):
            size, crc = size + len(piece), google_crc32c.extend(crc, piece)
    return {"bytes": size, "crc32c": crc}


def publish(temporary: Path, path: Path) -> None:
    """Give a finished file or folder its name, and let the disk know of it."""
    os.rename(temporary, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
