"""A store as one HDF5 file, which plain h5py opens.

The frames of a feature are one dataset (rows, dim) of which each shard is one chunk, and each utterance is a block of
layers x frames rows. All chunks are laid out when the feature is planned, so that a shard is then written into its
place without touching anything else in the file; what HDF5 itself has to change (a new feature, more shards, a
manifest) is taken back after a crash by putting the old bytes of everything but the chunks back.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np
import numpy.typing as npt
from pydantic_core import from_json

from featurestore.errors import StoreError
from featurestore.files import Array, Files, LocalFiles, RemoteFiles
from featurestore.forms import Change, Form, Record, ShardFiles, Tree
from featurestore.layout import ArrayLayout
from featurestore.plan import Ints
from featurestore.shard import BlockReader, BlockWriter
from featurestore.zarr3 import as_json, publish, sync_folder, write_file

ATTRIBUTES, MANIFEST = "attributes", "manifest"
DROPPED = "dropped"
"""A group with what repair has dropped; a copy of the store is free of it."""
LARGEST_CHUNK = (1 << 32) - 1
"""Bytes of a chunk that all versions of HDF5 can read."""
REMOTE_BLOCK = 1 << 16
"""Bytes that are fetched together of what HDF5 itself reads; the default of fsspec is 5 MB, of s3fs 50 MB."""


class Hdf5Form(Form):
    """One file; while it is being written, a folder beside it with the records of its shards."""

    compresses = False

    def __init__(self, files: Files) -> None:
        super().__init__(files)
        self._path = Path(files.root).resolve() if isinstance(files, LocalFiles) else Path(files.root)
        self._journal = self._path.with_name(f".{self._path.name}.journal")
        self._records = LocalFiles(str(self._path.with_name(f".{self._path.name}.shards")))

    def exists(self) -> bool:  # noqa: D102
        return self.files.exists("")

    def interrupted(self) -> bool:  # noqa: D102
        return isinstance(self.files, LocalFiles) and self._journal.exists()

    def attributes(self, group: str = "") -> Tree:  # noqa: D102
        return self._document(f"{group}/{ATTRIBUTES}")

    def array(self, path: str) -> Array:  # noqa: D102
        with self._open() as file:
            return np.asarray(self._find(file, path)[()])

    def features(self) -> list[str]:  # noqa: D102
        with self._open() as file:
            return sorted(name for name in file["features"] if name != ATTRIBUTES)

    def shard_shape(self, feature: str, array: str) -> tuple[int, int, int]:  # noqa: D102
        with self._open() as file:
            dataset = self._find(file, f"features/{feature}/{array}")
            layers, (rows, width) = int(dataset.attrs["layers"]), dataset.chunks
        return layers, rows // layers, width

    def manifest(self, feature: str) -> Tree | None:  # noqa: D102
        path = f"features/{feature}/{MANIFEST}"
        with self._open() as file:
            there = path in file
        return self._document(path) if there else None

    def records(self, feature: str) -> dict[int, Record]:  # noqa: D102
        names = [name for name in self._records.children(feature) if name[0] != "."]
        return {int(name.removesuffix(".json")): from_json(self._records.read(f"{feature}/{name}")) for name in names}

    def open_shard(  # noqa: D102
        self,
        feature: str,
        array: str,
        number: int,
        layout: ArrayLayout,
        starts: Ints,  # noqa: ARG002, a chunk of HDF5 has no index
        counts: Ints,  # noqa: ARG002
    ) -> BlockReader:
        return BlockReader(partial(self.files.ranges, ""), layout, self._base(feature, array, number))

    def shard_place(self, feature: str, array: str, number: int) -> tuple[str, int]:  # noqa: D102
        return "", self._base(feature, array, number)

    def recover(self) -> None:  # noqa: D102
        for unfinished in self._path.parent.glob(f".{self._journal.name}.*.tmp"):
            unfinished.unlink()
        if self._journal.exists():
            _roll_back(self._path, self._journal)

    @contextmanager
    def change(self) -> Iterator[Change]:  # noqa: D102
        self.recover()
        self._bases.clear()
        new = not self._path.exists()
        path = self._path.with_name(f".{self._path.name}.tmp") if new else self._path
        path.parent.mkdir(parents=True, exist_ok=True)
        if not new:
            write_file(self._journal, _everything_but_chunks(path))
        try:
            with h5py.File(path, "w" if new else "r+", libver="latest", locking=False) as file:
                yield _Hdf5Change(file)
        except BaseException:
            if new:
                path.unlink(missing_ok=True)
            self.recover()
            raise
        with open(path, "rb") as written:
            os.fsync(written.fileno())
        if new:
            publish(path, self._path)
        else:
            self._journal.unlink()
            sync_folder(self._path.parent)

    def write_shard(self, feature: str, number: int, layouts: dict[str, ArrayLayout]) -> ShardFiles:  # noqa: D102
        bases = {array: self._base(feature, array, number) for array in layouts}
        return _Hdf5Shard(self._path, bases, layouts)

    def write_record(self, feature: str, number: int, record: Record) -> None:  # noqa: D102
        write_file(Path(self._records.place(f"{feature}/{number}.json")), as_json(record))

    def drop_record(self, feature: str, number: int) -> None:  # noqa: D102
        Path(self._records.place(f"{feature}/{number}.json")).unlink(missing_ok=True)

    def clear(self, feature: str, keep_records: bool) -> None:  # noqa: D102
        folder = Path(self._records.place(feature))
        for temporary in folder.glob(".*.tmp"):
            temporary.unlink()
        if not keep_records:
            shutil.rmtree(folder, ignore_errors=True)
            if not self._records.children(""):
                shutil.rmtree(self._records.root, ignore_errors=True)

    @contextmanager
    def _open(self) -> Iterator[h5py.File]:
        """Open the file for reading, for as short as it takes: nobody can change an open one."""
        try:
            if isinstance(self.files, RemoteFiles):
                yield self._remote_file(self.files)
                return
            with _open_local(self.files.root) as file:
                yield file
        except (OSError, KeyError, RuntimeError) as error:
            if isinstance(error, OSError) and (error.errno is not None or isinstance(self.files, RemoteFiles)):
                raise  # it is that of the file system, and tells nothing about the content
            if self.interrupted():
                raise StoreError(f"{self.files.root} is being changed: open it again") from None
            raise StoreError(f"{self.files.root} is damaged, or no HDF5 file: {error}") from None

    def _remote_file(self, files: RemoteFiles) -> h5py.File:
        """Return the open file, which is kept: opening it costs many requests."""
        if self.__dict__.get("_process") != os.getpid():
            try:
                self._kept = _open_remote(files)
            except OSError as error:
                raise StoreError(f"{files.root} cannot be opened as HDF5: {error}") from None
            self._process = os.getpid()
        return self._kept

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key not in ("_kept", "_process")}

    @cached_property
    def _bases(self) -> dict[tuple[str, str], list[int]]:
        return {}

    def _base(self, feature: str, array: str, number: int) -> int:
        """Return the byte at which a shard's chunk begins."""
        key = feature, array
        if key not in self._bases:
            with self._open() as file:
                found = self._find(file, f"features/{feature}/{array}")
                self._bases[key] = [offset for offset, _ in _chunks(found)]
        return self._bases[key][number]

    def _find(self, file: h5py.File, path: str) -> h5py.Dataset:
        found = file.get(path)
        if found is None:
            raise StoreError(f"{self.files.root} has no {path}: it is damaged")
        if not isinstance(found, h5py.Dataset):
            raise StoreError(f"{self.files.root}: {path} is no dataset, it is not one of our stores")
        return found

    def _document(self, path: str) -> Tree:
        try:
            with self._open() as file:
                return dict(from_json(self._find(file, path)[()]))
        except ValueError as error:
            raise StoreError(f"{self.files.root}: {path} is damaged: {error}") from None


class _Hdf5Change(Change):
    def __init__(self, file: h5py.File) -> None:
        self._file = file

    def group(self, path: str, attributes: Tree) -> None:
        if isinstance(self._file.get(path or "/"), h5py.Dataset):
            del self._file[path]  # a column of numbers becomes one of text
        self._document(f"{path}/{ATTRIBUTES}", attributes)

    def array(self, path: str, values: Array, dimension: str) -> None:
        dataset = self._replace(path, np.ascontiguousarray(values, values.dtype.newbyteorder("<")))
        dataset.attrs["dimension"] = dimension

    def sharded(self, path: str, layout: ArrayLayout, shards: int) -> None:
        layers, length, width = layout.shard
        rows = layers * length
        size = rows * width * layout.dtype.itemsize
        if size > LARGEST_CHUNK:
            raise StoreError(
                f"a shard of {path} would have {size / 1e9:.1f} GB, HDF5 holds {LARGEST_CHUNK / 1e9:.1f}: give a path "
                "that ends in .zarr, or a smaller dtype"
            )
        if path in self._file:
            self._file[path].resize(shards * rows, axis=0)
            return
        parent, _, name = path.rpartition("/")
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_chunk((rows, width))
        properties.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        properties.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        properties.set_obj_track_times(False)
        space = h5py.h5s.create_simple((shards * rows, width), (h5py.h5s.UNLIMITED, width))
        kind = h5py.h5t.py_create(layout.dtype.newbyteorder("<"), logical=True)
        h5py.h5d.create(self._file.require_group(parent).id, name.encode(), kind, space, dcpl=properties)
        self._file[path].attrs["layers"] = layers

    def manifest(self, feature: str, manifest: Tree) -> None:
        self._document(f"features/{feature}/{MANIFEST}", manifest)

    def remove(self, feature: str) -> None:
        dropped = self._file.require_group(DROPPED)  # its chunks keep their owner, or they would count as metadata
        self._file.move(f"features/{feature}", f"{DROPPED}/{len(dropped)}")

    def _document(self, path: str, document: Tree) -> None:
        self._replace(path, np.array(as_json(document)))

    def _replace(self, path: str, values: npt.NDArray[Any]) -> h5py.Dataset:
        if path in self._file:
            del self._file[path]
        return self._file.create_dataset(path, data=values, track_times=False)


class _Hdf5Shard(ShardFiles):
    def __init__(self, path: Path, bases: dict[str, int], layouts: dict[str, ArrayLayout]) -> None:
        self._files = [open(path, "r+b", buffering=0) for _ in bases]  # noqa: SIM115, closed by __exit__
        self.arrays = {}
        for file, (array, base) in zip(self._files, bases.items(), strict=True):
            file.seek(base)
            self.arrays[array] = BlockWriter(file, layouts[array])

    def close(self) -> dict[str, dict[str, int]]:
        os.fsync(self._files[0].fileno())
        return {array: writer.close() for array, writer in self.arrays.items()}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in self._files:
            file.close()


def _open_remote(files: RemoteFiles) -> h5py.File:
    return h5py.File(files.filesystem.open(files.root, block_size=REMOTE_BLOCK, cache_type="blockcache"), "r")


def _open_local(path: str) -> h5py.File:
    try:
        return h5py.File(path, "r", locking=False)
    except OSError:  # the process has it open already, with locking
        return h5py.File(path, "r")


def _chunks(dataset: h5py.Dataset) -> list[tuple[int, int]]:
    """Return where each shard begins, and its bytes."""
    rows = dataset.chunks[0]
    found: dict[int, tuple[int, int]] = {}
    dataset.id.chunk_iter(
        lambda chunk: found.__setitem__(chunk.chunk_offset[0] // rows, (chunk.byte_offset, chunk.size))
    )
    return [found[number] for number in range(dataset.shape[0] // rows)]


def _everything_but_chunks(path: Path) -> bytes:
    """Return a journal: a line of JSON with the file's size and the ranges that follow."""
    taken: list[tuple[int, int]] = []

    def collect(_: str, found: h5py.Group | h5py.Dataset) -> None:
        if isinstance(found, h5py.Dataset) and found.chunks is not None:
            taken.extend(_chunks(found))

    with h5py.File(path, "r", locking=False) as file:
        file.visititems(collect)
    size, end, ranges = path.stat().st_size, 0, []
    for offset, length in [*sorted(taken), (size, 0)]:
        ranges.append((end, offset - end))
        end = offset + length
    header = json.dumps({"size": size, "ranges": ranges}).encode() + b"\n"
    with open(path, "rb") as content:
        return header + b"".join(_read(content, *place) for place in ranges)


def _roll_back(path: Path, journal: Path) -> None:
    """Put back what the journal holds; can be interrupted and repeated."""
    header, _, content = journal.read_bytes().partition(b"\n")
    document, begin = from_json(header), 0
    with open(path, "r+b") as file:
        for offset, length in document["ranges"]:
            file.seek(offset)
            file.write(content[begin : begin + length])
            begin += length
        file.truncate(document["size"])
        file.flush()
        os.fsync(file.fileno())
    journal.unlink()
    sync_folder(path.parent)


def _read(file: Any, offset: int, length: int) -> bytes:
    file.seek(offset)
    return bytes(file.read(length))
