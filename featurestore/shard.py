"""One shard file of a sharded Zarr v3 array: chunks in any order, then the index that says where each one is.

The specification leaves the order of the chunks free. We write them utterance by utterance, in each
layer by layer, in each over time, so that an utterance with all its layers, and each layer of it, is one
contiguous range of bytes.
"""

from __future__ import annotations

import mmap
import os
import struct
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import numpy.typing as npt

from featurestore.errors import StoreError
from featurestore.zarr3 import publish

ABSENT = np.uint64(2**64 - 1)
Array = npt.NDArray[Any]


class ShardWriter:
    """Writes a shard under a temporary name; `close` gives it its name.

    Args:
        path: of the shard file.
        shape: of a shard, (layers, frames, dim).
        chunk: the shape of its chunks, (1 or layers, frames of a chunk, dim).
    """

    def __init__(self, path: Path, shape: tuple[int, int, int], chunk: tuple[int, int, int]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path, self._temporary = path, path.with_name(f".{path.name}.{os.getpid()}.tmp")
        self._chunk = chunk
        self._index = np.full((shape[0] // chunk[0], shape[1] // chunk[1], 2), ABSENT, "<u8")
        self._file = open(self._temporary, "wb")  # noqa: SIM115, closed by close and abort
        self._size, self._crc = 0, 0

    def put(self, first: int, frames: Array) -> None:
        """Write ``frames`` (layers, frames, dim) from frame ``first`` of the shard on; both start on a chunk."""
        layers, count, _ = frames.shape
        rows, columns = layers // self._chunk[0], -(-count // self._chunk[1])
        padding = columns * self._chunk[1] - count
        if padding:
            frames = np.pad(frames, ((0, 0), (0, padding), (0, 0)))
        content = np.ascontiguousarray(frames).tobytes()
        size = len(content) // (rows * columns)
        where = self._index[:, first // self._chunk[1] :][:, :columns]
        where[..., 0] = self._size + np.arange(rows * columns, dtype=np.uint64).reshape(rows, columns) * size
        where[..., 1] = size
        self._write(content)

    def close(self) -> dict[str, int]:
        """Write the index, put the file on the disk under its name, and return its ``bytes`` and ``crc32c``."""
        index = self._index.tobytes()
        self._write(index + struct.pack("<I", google_crc32c.value(index)))
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        publish(self._temporary, self._path)
        return {"bytes": self._size, "crc32c": self._crc}

    def abort(self) -> None:
        """Leave nothing behind."""
        self._file.close()
        self._temporary.unlink(missing_ok=True)

    def _write(self, content: bytes) -> None:
        self._file.write(content)
        self._size += len(content)
        self._crc = google_crc32c.extend(self._crc, content)


class ShardReader:
    """Maps a shard file and gives out ranges of frames as views of the map.

    Args:
        path: of the shard file.
        shape: of a shard, (layers, frames, dim).
        chunk: the shape of its chunks.
        dtype: of its elements.

    Raises:
        StoreError: if the file is absent, truncated, or its index does not match its checksum.
    """

    def __init__(
        self, path: Path, shape: tuple[int, int, int], chunk: tuple[int, int, int], dtype: npt.DTypeLike
    ) -> None:
        self._chunk, self._dtype = chunk, np.dtype(dtype)
        grid = (shape[0] // chunk[0], shape[1] // chunk[1])
        try:
            with open(path, "rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        except (FileNotFoundError, ValueError) as error:
            raise StoreError(f"shard {path} cannot be read: {error}") from None
        end = len(self._map) - 4
        size = grid[0] * grid[1] * 16
        index = self._map[max(0, end - size) : end]
        if len(index) != size or google_crc32c.value(index) != struct.unpack("<I", self._map[end:])[0]:
            raise StoreError(f"shard {path} is damaged: its index does not match its checksum; run ser-store verify")
        self._index = np.frombuffer(index, "<u8").reshape(*grid, 2)

    def get(self, first: int, count: int, layers: slice = slice(None)) -> Array:
        """Return ``count`` frames from ``first`` (on a chunk) on, (layers, count, dim), as a view where it can be.

        Raises:
            StoreError: if they were never written.
        """
        columns = -(-count // self._chunk[1])
        where = self._index[layers if self._chunk[0] == 1 else slice(None), first // self._chunk[1] :][:, :columns]
        if (where[..., 0] == ABSENT).any():
            raise StoreError(f"frames {first} to {first + count} were never written")
        rows, begin, size = where.shape[0], int(where[0, 0, 0]), int(where[0, 0, 1])
        offsets = where[..., 0].ravel()
        if np.array_equal(offsets, begin + size * np.arange(offsets.size, dtype=np.uint64)):
            values = self._elements(begin, size * offsets.size)
        else:  # a shard that somebody else has written, in another order
            values = np.stack([self._elements(int(offset), size) for offset in offsets])
        values = values.reshape(rows * self._chunk[0], columns * self._chunk[1], self._chunk[2])
        return values[layers if self._chunk[0] != 1 else slice(None), :count]

    def _elements(self, offset: int, size: int) -> Array:
        return np.frombuffer(self._map, self._dtype, size // self._dtype.itemsize, offset)
