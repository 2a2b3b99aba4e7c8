"""The blocks of a shard: one contiguous range of bytes per utterance, in the order layer, time, channel."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from io import FileIO
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import numpy.typing as npt

from featurestore.format.atomic import naming, publish
from featurestore.format.files import FEW, OpenFile
from featurestore.format.layout import ArrayLayout
from featurestore.format.plan import Ints
from featurestore.format.zarr_documents import ZSTD_LEVEL
from featurestore.shared.errors import StoreError

ABSENT = np.uint64(2**64 - 1)
BLOSC_HEADER = 16
"""Bytes of the header of a Blosc frame; its bytes 4 to 7 are the size of the content."""
MOST_UNPACKED = 256
"""How many times larger than its shard's file an utterance may be: frames compress only to a half."""
Array = npt.NDArray[Any]
ALL = slice(None)


class ShardWriter:
    """Writes a shard into a file: blocks in ascending order, zeros where an utterance has none.

    The file has a temporary name until `close`.

    Args:
        path: of the file.
        layout: of the array.
    """

    def __init__(self, path: Path, layout: ArrayLayout) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path, self._temporary = path, path.with_name(f".{path.name}.{os.getpid()}.tmp")
        self._file = FileIO(self._temporary, "wb")
        self._layout = layout
        self._size, self._crc = 0, 0

    def put(self, first: int, values: Array) -> int:
        """Write the block of ``values`` (layers, count, width) at frame ``first`` and return its CRC-32C."""
        self._write(bytes(first * self._layout.row_bytes - self._size))
        if self._layout.chunk[0] > 1:
            return self._write(np.ascontiguousarray(values, self._layout.dtype))
        padding = bytes(-values.shape[1] % self._layout.chunk[1] * self._layout.shard[2] * self._layout.dtype.itemsize)
        crc = 0
        for layer in values:
            crc = self._write(padding, self._write(np.ascontiguousarray(layer, self._layout.dtype), crc))
        return crc

    def close(self) -> dict[str, int]:
        """Put the file on the disk under its name, and return its ``bytes`` and ``crc32c``."""
        os.fsync(self._file.fileno())
        self._file.close()
        publish(self._temporary, self._path)
        return {"bytes": self._size, "crc32c": self._crc}

    def abort(self) -> None:
        """Remove the unfinished file."""
        self._file.close()
        self._temporary.unlink(missing_ok=True)

    def _write(self, content: Array | bytes, crc: int = 0) -> int:
        """Write ``content`` and return the CRC-32C ``crc``, extended by it."""
        if not len(content):
            return crc
        octets = np.frombuffer(content, np.uint8)
        rest = octets.data
        with naming(self._path):
            while rest:  # a single write ends at 2 GiB, or where the disk is full
                rest = rest[self._file.write(rest) :]
        self._size += octets.size
        self._crc = google_crc32c.extend(self._crc, octets)
        return int(google_crc32c.extend(crc, octets))


class ZarrShardWriter(ShardWriter):
    """Writes a shard of a Zarr array: the blocks, then the index."""

    def __init__(self, path: Path, layout: ArrayLayout) -> None:
        super().__init__(path, layout)
        self._index = np.full((*layout.grid, 2), ABSENT, "<u8")

    def put(self, first: int, values: Array) -> int:
        """Write the block of ``values`` (layers, count, width) at frame ``first`` and return its CRC-32C."""
        layout = self._layout
        columns = layout.columns(values.shape[1])
        where = self._index[:, first // layout.chunk[1] :][:, :columns]
        if not layout.compress:
            crc = super().put(first, values)
            begin = first * layout.row_bytes
            where[..., 0] = begin + np.arange(where[..., 0].size).reshape(where.shape[:2]) * layout.chunk_bytes
            where[..., 1] = layout.chunk_bytes
            return crc
        chunks = _as_chunks(_filled(values, layout), layout)
        packed = [_compress(chunk) for chunk in chunks]
        sizes = np.array([len(content) for content in packed], np.uint64)
        where[..., 1] = sizes.reshape(where.shape[:2])
        where[..., 0] = (self._size + np.cumsum(sizes) - sizes).reshape(where.shape[:2])
        return self._write(b"".join(packed))

    def close(self) -> dict[str, int]:
        """Write the index, put the file on the disk under its name, and return its ``bytes`` and ``crc32c``."""
        index = self._index.tobytes()
        self._write(index + struct.pack("<I", google_crc32c.value(index)))
        return super().close()


class BlockReader:
    """Reads the blocks of one shard.

    Args:
        open_file: returns the open file.
        layout: of the array.
        base: the byte of the file at which the shard begins.
        index: the offset and size of each chunk, (chunks along layers, along frames, 2), if they do not lie as
            `ShardWriter` puts them: they are compressed, or another program has written them.
        place: the file, for messages about its chunks.
    """

    def __init__(
        self,
        open_file: Callable[[], OpenFile],
        layout: ArrayLayout,
        base: int = 0,
        index: Array | None = None,
        place: str = "",
    ) -> None:
        self._open_file, self._layout, self._base, self._index, self._place = open_file, layout, base, index, place
        self._layers, _, self._width = layout.shard  # kept, since every read needs them
        self._unit, self._row_bytes, self._itemsize = layout.chunk[1], layout.row_bytes, layout.dtype.itemsize

    @property
    def contiguous(self) -> bool:
        """Whether each block is one range of bytes with a known place."""
        return self._index is None

    def get(self, first: int, count: int, layers: slice = ALL) -> Array:
        """Return ``count`` frames from ``first`` on, (layers, count, width), as a view if possible."""
        if self._index is not None:
            return self._from_chunks(first, count, layers)
        offset, shape = self.block(first, count, layers)
        values = self._open_file().array(self._layout.dtype, shape[0] * shape[1] * shape[2], offset)
        values = values.reshape(shape)
        return values if shape[1] == count else values[:, :count]

    def block(self, first: int, count: int, layers: slice = ALL) -> tuple[int, tuple[int, int, int]]:
        """Return the byte where ``layers`` (a slice with both ends, or all) of a block begin, and their shape."""
        rows, width = count + -count % self._unit, self._width
        offset = self._base + first * self._row_bytes
        low, high = layers.start, layers.stop
        if low is None:
            return offset, (self._layers, rows, width)
        return offset + low * rows * width * self._itemsize, (high - low, rows, width)

    def read_into(self, buffer: Array, offset: int) -> None:
        """Fill ``buffer`` from a byte of the file on."""
        self._open_file().read_into(buffer, offset)

    def read_direct(self, room: Array, offset: int, size: int) -> Array:
        """Return ``size`` bytes from a byte of the file on, read past the page cache; see `OpenFile.read_direct`."""
        return self._open_file().read_direct(room, offset, size)

    def prefetch(self, first: int, count: int, layers: slice = ALL) -> None:
        """Tell the kernel that a block will be read soon."""
        if self._index is None:
            offset, shape = self.block(first, count, layers)
            self._open_file().prefetch(offset, shape[0] * shape[1] * shape[2] * self._itemsize)

    def checksum(self, first: int, count: int) -> int:
        """Return the CRC-32C of a block as it lies on the disk."""
        if self._index is None:
            offset, (layers, rows, width) = self.block(first, count)
            content = self._open_file().array(self._layout.dtype, layers * rows * width, offset)
            return int(google_crc32c.value(content))
        file, columns, crc = self._open_file(), self._layout.columns(count), 0
        where = self._index[:, first // self._layout.chunk[1] :][:, :columns].reshape(-1, 2)
        for offset, size in where.tolist():
            crc = google_crc32c.extend(crc, file.array(np.uint8, size, offset))
        return int(crc)

    def _from_chunks(self, first: int, count: int, layers: slice) -> Array:
        layout, index = self._layout, self._index
        assert index is not None
        columns = layout.columns(count)
        rows = layers if layout.chunk[0] == 1 else ALL
        where = index[rows, first // layout.chunk[1] :][:, :columns]
        if (where[..., 0] == ABSENT).any():
            raise StoreError(f"{self._place}: frames {first} to {first + count} were never written")
        file, size = self._open_file(), where.shape[0] * columns * layout.chunk_bytes
        if size > max(FEW, MOST_UNPACKED * file.size):
            raise StoreError(
                f"{self._place} is damaged: its {file.size} bytes claim to hold {size} bytes of an utterance"
            )
        chunks = np.stack([self._chunk(file, offset, size) for offset, size in where.reshape(-1, 2).tolist()])
        values = chunks.reshape(*where.shape[:2], *layout.chunk).swapaxes(1, 2)
        values = values.reshape(where.shape[0] * layout.chunk[0], columns * layout.chunk[1], layout.chunk[2])
        return values[ALL if layout.chunk[0] == 1 else layers, :count]

    def _chunk(self, file: OpenFile, offset: int, size: int) -> Array:
        content, expected = file.array(np.uint8, size, offset), self._layout.chunk_bytes
        try:
            content = _decompress(content, expected) if self._layout.compress else content
            return content.reshape(expected).view(self._layout.dtype)
        except (RuntimeError, ValueError) as error:
            raise StoreError(f"{self._place} is damaged: its chunk at byte {offset}: {error}") from None


def open_zarr_shard(
    open_file: Callable[[], OpenFile], layout: ArrayLayout, place: str, starts: Ints, counts: Ints
) -> BlockReader:
    """Return a reader of a Zarr shard; its index is read once, to see whether the blocks lie where they should.

    Args:
        open_file: returns the open file.
        layout: of the array.
        place: the file, for messages.
        starts: the first frame of each of its utterances in the shard.
        counts: the number of frames of each.

    Raises:
        StoreError: if the file is truncated, or its index does not match its checksum.
    """
    grid, file = layout.grid, open_file()
    size = grid[0] * grid[1] * 16
    file.check(0, min(size + 4, file.size))
    found = np.empty(min(size + 4, file.size), np.uint8)
    file.read_into(found, file.size - found.size)  # not through the map: that would read megabytes ahead
    content = found.tobytes()
    if len(content) < size + 4 or google_crc32c.value(content[:-4]) != struct.unpack("<I", content[-4:])[0]:
        raise StoreError(f"{place} is damaged: its index does not match its checksum; run ser-store verify")
    index = np.frombuffer(content, "<u8", size // 8).reshape(*grid, 2)
    if layout.compress or not _lies_in_blocks(index, layout, starts, counts):
        return BlockReader(open_file, layout, 0, index, place)
    return BlockReader(open_file, layout)


def _lies_in_blocks(index: Array, layout: ArrayLayout, starts: Ints, counts: Ints) -> bool:
    """Return whether every chunk lies where `ShardWriter` puts it."""
    rows, unit = np.arange(layout.grid[0])[:, None], layout.chunk[1]
    columns = -(-counts // unit)
    block = np.repeat(np.arange(len(columns)), columns)  # of each chunk along the frames
    column = np.arange(len(block)) - (np.cumsum(columns) - columns)[block]
    expected = np.full(layout.grid, ABSENT, np.uint64)
    place = starts[block] * layout.row_bytes + (rows * columns[block] + column) * layout.chunk_bytes
    expected[:, starts[block] // unit + column] = place
    there = index[..., 0] != ABSENT
    return bool((index[..., 0][there] == expected[there]).all() and (index[..., 1][there] == layout.chunk_bytes).all())


def _filled(values: Array, layout: ArrayLayout) -> Array:
    """Return ``values`` (layers, count, width) with zeros up to whole chunks, contiguous."""
    layers, count, width = values.shape
    missing = -count % layout.chunk[1]
    if not missing:
        return np.ascontiguousarray(values, layout.dtype)
    filled = np.empty((layers, count + missing, width), layout.dtype)
    filled[:, :count] = values
    filled[:, count:] = 0
    return filled


def _as_chunks(block: Array, layout: ArrayLayout) -> Array:
    layers, count, width = block.shape
    return block.reshape(layers * (count // layout.chunk[1]), layout.chunk[1] * width)


def _compress(chunk: Array) -> bytes:
    from numcodecs import blosc

    blosc.use_threads = False  # the bytes must not depend on which thread is first
    return bytes(blosc.compress(chunk, b"zstd", ZSTD_LEVEL, blosc.SHUFFLE, 0))


def _decompress(content: Array, size: int) -> Array:
    """Return the content of a Blosc frame, after checking that its header says ``size`` bytes.

    Raises:
        ValueError: if the header says something else.
        RuntimeError: if it is damaged.
    """
    from numcodecs import blosc

    says = int(content[4:8].view("<u4")[0]) if content.size >= BLOSC_HEADER else 0
    if content.size > size + BLOSC_HEADER:  # it cannot be larger than the content
        raise ValueError(f"it has {content.size} bytes, expected at most {size + BLOSC_HEADER}")
    if says != size:
        raise ValueError(f"it claims to hold {says} bytes, expected {size}")
    return np.frombuffer(blosc.decompress(content.tobytes()), np.uint8)
