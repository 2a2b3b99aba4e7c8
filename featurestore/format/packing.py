"""Write all of a store into one HDF5 file.

HDF5 itself writes into memory, since it does not survive a full disk. Then the file is written: what HDF5 has made, and
the bytes of the shards, which are compared with their checksums.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import google_crc32c
import h5py
import numpy as np
from typing_extensions import override

from featurestore.format.atomic import naming
from featurestore.format.backend import Backend, Record
from featurestore.format.documents import Tree, as_json
from featurestore.format.files import Array
from featurestore.format.hdf5 import ATTRIBUTES, MANIFEST, chunk_places
from featurestore.format.index import Index
from featurestore.format.layout import PLANNED, ArrayLayout, check_plan, column_path, describe_bytes, free_bytes
from featurestore.format.planned import PlannedFeature
from featurestore.format.table import AXIS, read_intact_table
from featurestore.shared.errors import StoreError

PIECE = 1 << 24
"""Bytes that are copied at once."""
PAGE = 1 << 16


def write_hdf5(backend: Backend, path: Path) -> None:
    """Write all of a store into one new file and flush it; of unfinished features the shards that exist.

    Args:
        backend: of the store, whose shards must not have an index.
        path: of the file, which must not exist.

    Raises:
        StoreError: if a part of the store is damaged, or the disk has no room.
    """
    read_intact_table(backend)
    index = Index(backend)
    features = [PlannedFeature(backend, name, index) for name in backend.features()]
    image = _Image()
    with h5py.File(image, "w", libver="latest") as file:
        _write_table(file, backend)
        _write_group(file, "features", {})
        for feature in features:
            _write_feature(file, backend, feature)
        _write_group(file, "", backend.attributes())
        places = {
            (feature.name, array): chunk_places(file[f"features/{feature.name}/{array}"], 1 << 63)
            for feature in features
            for array in feature.layouts
        }
    _check_room(path, image, features)
    with naming(path), path.open("xb", buffering=0) as target:
        image.write_to(target)
        for feature in features:
            for number, record in feature.records.items():
                for array in feature.layouts:
                    begin = places[feature.name, array][number]
                    _copy_shard(backend, feature.name, array, number, record, target, begin)
        os.fsync(target.fileno())


def _write_table(file: h5py.File, backend: Backend) -> None:
    columns = backend.columns()
    _write_group(file, "table", {"columns": columns})
    for column, kind in columns.items():
        path = column_path(column)
        if kind == "text":
            _write_group(file, path, {})
            _write_array(file, f"{path}/offsets", backend.array(f"{path}/offsets"), f"{AXIS} + 1")
            _write_array(file, f"{path}/bytes", backend.array(f"{path}/bytes"), "byte")
        else:
            _write_array(file, path, backend.array(path), AXIS)


def _write_feature(file: h5py.File, backend: Backend, feature: PlannedFeature) -> None:
    group, manifest = f"features/{feature.name}", backend.manifest(feature.name)
    if manifest is not None:
        check_plan(feature.checksums, manifest["plan"], f"{feature.name} in {backend.path}")
    _write_group(file, group, feature.spec.to_dict())
    for array in PLANNED:
        _write_array(file, f"{group}/{array}", feature.planned[array], AXIS)
    for array, layout in feature.layouts.items():
        _write_sharded(file, f"{group}/{array}", layout, feature.shards)
    if feature.records:
        shards = {str(number): feature.records[number] for number in sorted(feature.records)}
        plan = feature.checksums if manifest is None else manifest["plan"]
        _write_text(file, f"{group}/{MANIFEST}", {"plan": plan, "shards": shards})


def _write_group(file: h5py.File, path: str, attributes: Tree) -> None:
    _write_text(file, f"{path}/{ATTRIBUTES}", attributes)


def _write_text(file: h5py.File, path: str, document: Tree) -> None:
    file.create_dataset(path, data=np.array(as_json(document)), track_times=False)


def _write_array(file: h5py.File, path: str, values: Array, dimension: str) -> None:
    values = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
    file.create_dataset(path, data=values, track_times=False).attrs["dimension"] = dimension


def _write_sharded(file: h5py.File, path: str, layout: ArrayLayout, shards: int) -> None:
    """Make a dataset with all of its chunks allocated, and nothing in them."""
    layers, length, width = layout.shard
    rows = layers * length
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_chunk((rows, width))
    properties.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    properties.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    properties.set_obj_track_times(False)
    parent, _, name = path.rpartition("/")
    space = h5py.h5s.create_simple((shards * rows, width), (h5py.h5s.UNLIMITED, width))
    kind = h5py.h5t.py_create(layout.dtype.newbyteorder("<"), logical=True)
    h5py.h5d.create(file[parent].id, name.encode(), kind, space, dcpl=properties)
    file[path].attrs["layers"] = layers


def _check_room(path: Path, image: _Image, features: list[PlannedFeature]) -> None:
    needed, free = image.size_in_memory + sum(feature.size for feature in features), free_bytes(path.parent)
    if needed > free:
        raise StoreError(
            f"No space left on device: {path.parent} has {describe_bytes(free)} free; an HDF5 file is written whole "
            f"beside the one there, and needs {describe_bytes(needed)}: make room, or use a path that ends in .zarr"
        )


def _copy_shard(
    backend: Backend, feature: str, array: str, number: int, record: Record, target: Any, begin: int
) -> None:
    """Copy the bytes of a shard, and compare them with their checksum.

    Raises:
        StoreError: if they do not match.
    """
    files, path, place = backend.shard_file(feature, array, number)
    file, expected, crc = files.open(path), record["files"][array], 0
    size = expected["bytes"]
    file.check(place, size)
    for offset in range(0, size, PIECE):
        piece = file.array(np.uint8, min(PIECE, size - offset), place + offset)
        crc = google_crc32c.extend(crc, piece)
        _write_all(target, piece, begin + offset)
    if crc != expected["crc32c"]:
        raise StoreError(
            f"{backend.path}: shard {number} of {feature} is damaged, the checksum of its {array} is {crc:08x}, "
            f"expected {expected['crc32c']:08x}; nothing was changed: run ser-store repair"
        )


def _write_all(target: Any, content: Any, offset: int) -> None:
    rest = memoryview(content)
    while rest:  # a single write ends at 2 GiB, or where the disk is full
        done = os.pwrite(target.fileno(), rest, offset)
        rest, offset = rest[done:], offset + done


class _Image(io.RawIOBase):
    """A sparse file in memory: only the pages that were written take room."""

    def __init__(self) -> None:
        self._pages: dict[int, bytearray] = {}
        self._place, self._size = 0, 0

    @property
    def size_in_memory(self) -> int:
        """The bytes of all pages."""
        return len(self._pages) * PAGE

    def write_to(self, target: Any) -> None:
        """Write all pages into a file of the same size."""
        target.truncate(self._size)
        for number in sorted(self._pages):
            _write_all(target, self._pages[number][: self._size - number * PAGE], number * PAGE)

    @override
    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._place = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._size}[whence]
        return self._place

    @override
    def tell(self) -> int:
        return self._place

    @override
    def truncate(self, size: int | None = None) -> int:
        self._size = self._place if size is None else size
        return self._size

    @override
    def readinto(self, buffer: Any) -> int:
        count = max(0, min(len(buffer), self._size - self._place))
        for begin, number, within, length in self._cut(count):
            page = self._pages.get(number)
            buffer[begin : begin + length] = bytes(length) if page is None else page[within : within + length]
        self._place += count
        return count

    @override
    def write(self, content: Any) -> int:
        for begin, number, within, length in self._cut(len(content)):
            page = self._pages.setdefault(number, bytearray(PAGE))
            page[within : within + length] = content[begin : begin + length]
        self._place += len(content)
        self._size = max(self._size, self._place)
        return len(content)

    def _cut(self, count: int) -> Iterator[tuple[int, int, int, int]]:
        """Yield the pages of the next ``count`` bytes: place in the bytes, page number, place in the page, size."""
        begin = 0
        while begin < count:
            number, within = divmod(self._place + begin, PAGE)
            length = min(PAGE - within, count - begin)
            yield begin, number, within, length
            begin += length
