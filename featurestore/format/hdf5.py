"""Read a store that is one HDF5 file; plain h5py opens it, too.

The frames of a feature are one dataset (rows, dim) of which each shard is one chunk, and each utterance is a block of
layers x frames rows. A file is never changed: `featurestore.format.packing` writes another one in its place.
"""

from __future__ import annotations

import io
import os
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property, partial
from typing import Any

import h5py
import numpy as np
from typing_extensions import override

from featurestore.format.backend import Backend, Record
from featurestore.format.documents import Manifest, Tree, checked, is_name, parsed
from featurestore.format.files import Array, Files, OpenFile
from featurestore.format.layout import AFFINE, PLANNED, POOLED, ArrayLayout, column_path
from featurestore.format.plan import Ints
from featurestore.format.remote_files import RemoteFiles
from featurestore.format.shard import BlockReader
from featurestore.shared.errors import MALFORMED, StoreError

ATTRIBUTES, MANIFEST = "attributes", "manifest"
OUR_NOTES = ("dimension", "layers")
"""The attributes that our datasets have."""
MOST_SHARDS = 1 << 20
"""The most shards of a dataset: HDF5 lists them all, even if the file does not have them."""
REMOTE_BLOCK = 1 << 16
"""Bytes per request of what HDF5 itself reads; the default of fsspec is 5 MB, of s3fs 50 MB."""


class Hdf5Backend(Backend):
    """One HDF5 file: it stays the one that was opened first, even if another takes its place."""

    @override
    def exists(self) -> bool:
        return self.files.has_open("") or self.files.exists("")

    @override
    def attributes(self, group: str = "") -> Tree:
        return self._document(f"{group}/{ATTRIBUTES}")

    @override
    def array(self, path: str) -> Array:
        with self._dataset(path) as dataset:
            values = self._values(dataset)
            if values.ndim != 1:
                raise ValueError(f"{path} has {values.ndim} dimensions, expected one")
            return values.astype(values.dtype.newbyteorder("="), copy=False)

    @override
    def features(self) -> list[str]:
        with self._open() as file:
            names = sorted(name for name in self._group(file, "features") if name != ATTRIBUTES)
        for name in names:
            if not is_name(name):
                raise StoreError(
                    f"{self.path} holds a feature named {name!r}, expected the name of a folder: do not trust it"
                )
        return names

    @override
    def shard_shape(self, feature: str, array: str) -> tuple[int, int, int]:
        with self._dataset(f"features/{feature}/{array}") as dataset:
            layers, (rows, width) = int(dataset.attrs["layers"]), dataset.chunks
            if layers < 1 or rows % layers:
                raise ValueError(f"{rows} rows of {layers} layers")
            return layers, rows // layers, width

    @override
    def manifest(self, feature: str) -> Tree | None:
        path = f"features/{feature}/{MANIFEST}"
        with self._open() as file:
            there = MANIFEST in self._group(file, f"features/{feature}")
        return checked(Manifest, self._document(path), f"{self.path}: {path}") if there else None

    @override
    def records(self, feature: str) -> dict[int, Record]:
        return {}  # all of them are in the manifest

    @override
    def open_shard(
        self,
        feature: str,
        array: str,
        number: int,
        layout: ArrayLayout,
        starts: Ints,
        counts: Ints,
    ) -> BlockReader:
        base = self._base(feature, array, number)
        self.files.open("").check(base, layout.row_bytes * int((starts + counts).max(initial=0)))
        return BlockReader(partial(self.files.open, ""), layout, base)  # a chunk of HDF5 has no index

    @override
    def shard_file(self, feature: str, array: str, number: int) -> tuple[Files, str, int]:
        return self.files, "", self._base(feature, array, number)

    def others(self) -> list[str]:
        """Return the groups, datasets, links and attributes in the file that are not part of a store."""
        known = {"table", "features", ATTRIBUTES, f"table/{ATTRIBUTES}", f"features/{ATTRIBUTES}"}
        for column, kind in self.columns().items():
            path = column_path(column)
            known |= {path, *(f"{path}/{part}" for part in ("offsets", "bytes", ATTRIBUTES) if kind == "text")}
        for feature in self.features():
            parts = (ATTRIBUTES, MANIFEST, *PLANNED, "data", *POOLED, *AFFINE)
            known |= {f"features/{feature}", *(f"features/{feature}/{part}" for part in parts)}
        known |= {"/".join(name.split("/")[:end]) for name in known for end in range(1, name.count("/") + 1)}
        with self._open() as file:
            return sorted(_strange(file, "", known))

    @contextmanager
    def _open(self) -> Iterator[h5py.File]:
        """Open the file for reading.

        Raises:
            StoreError: if HDF5 cannot read it, or its content is malformed.
        """
        if not self.exists():
            raise StoreError(f"{self.path} does not exist")
        try:
            yield self._opened()
        except (OSError, RuntimeError, *MALFORMED) as error:
            if isinstance(error, OSError) and (error.errno is not None or isinstance(self.files, RemoteFiles)):
                raise  # an error of the file system tells nothing about the content
            raise StoreError(f"{self.path} is damaged, or not an HDF5 file: {error}") from None

    def _opened(self) -> h5py.File:
        """Return the open file, which is kept open, since opening it takes many reads or requests."""
        if self.__dict__.get("_process") != os.getpid():
            if isinstance(self.files, RemoteFiles):
                self._kept = _open_remote(self.files)
            else:
                self._kept = h5py.File(_FileOf(self.files.open("")), "r")
            self._hard: set[str] = set()
            self._process = os.getpid()
            weakref.finalize(self, self._kept.close)  # HDF5 crashes on what is open when Python has ended
        return self._kept

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key not in ("_kept", "_hard", "_process")}

    @cached_property
    def _bases(self) -> dict[tuple[str, str], list[int]]:
        return {}

    def _base(self, feature: str, array: str, number: int) -> int:
        """Return the byte at which a shard's chunk begins."""
        key = feature, array
        if key not in self._bases:
            with self._dataset(f"features/{feature}/{array}") as dataset:
                self._bases[key] = chunk_places(dataset, self.files.open("").size)
        if number >= len(self._bases[key]):
            raise StoreError(f"{self.path} has no shard {number} of {feature}: it is damaged")
        return self._bases[key][number]

    @contextmanager
    def _dataset(self, path: str) -> Iterator[h5py.Dataset]:
        with self._open() as file:
            found = self._find(file, path)
            if not isinstance(found, h5py.Dataset):
                raise StoreError(f"{self.path}: {path} is not a dataset, so this is not a store of ser-extract")
            if found.is_virtual or found.external:
                raise StoreError(f"{self.path}: {path} takes its values from other files, which are not read")
            if found.id.get_create_plist().get_nfilters():
                raise StoreError(f"{self.path}: {path} is compressed, expected no filters as in every HDF5 store")
            yield found

    def _group(self, file: h5py.File, path: str) -> h5py.Group:
        found = self._find(file, path)
        if not isinstance(found, h5py.Group):
            raise StoreError(f"{self.path}: {path} is not a group, so this is not a store of ser-extract")
        return found

    def _find(self, file: h5py.File, path: str) -> h5py.Group | h5py.Dataset:
        """Return the group or dataset at a path, without following links to other places or files."""
        path = path.strip("/")
        for end in [at for at, character in enumerate(path) if character == "/"] + [len(path)]:
            if path[:end] not in self._hard:
                self._refuse_soft(file, path[:end])
        return file[path]

    def _refuse_soft(self, file: h5py.File, path: str) -> None:
        """Refuse a path that does not exist, or is a soft or external link; its parents are checked already."""
        if not file.id.links.exists(path.encode()):
            raise StoreError(f"{self.path} has no {path}: it is damaged")
        if file.id.links.get_info(path.encode()).type != h5py.h5l.TYPE_HARD:
            raise StoreError(f"{self.path}: {path} is a link, which is not followed")
        self._hard.add(path)

    def _values(self, dataset: h5py.Dataset) -> Array:
        """Return a whole dataset, after comparing its size with that of the file."""
        place, size = dataset.id.get_offset(), dataset.size * dataset.dtype.itemsize
        if dataset.dtype.kind not in "iufbS" or dataset.chunks or dataset.id.get_storage_size() != size:
            raise ValueError(f"{dataset.name} is not stored in one piece as numbers or text of fixed length")
        if size and place is None:
            raise ValueError(f"{dataset.name} has {size} bytes, which the file does not have")
        if size:
            self.files.open("").check(place, size)
        return np.asarray(dataset[()])

    def _document(self, path: str) -> Tree:
        with self._dataset(path) as dataset:
            return parsed(bytes(self._values(dataset).item()), f"{self.path}: {path}")


def _strange(part: h5py.Group | h5py.Dataset, path: str, known: set[str]) -> Iterator[str]:
    """Yield what is below a part of a file and not known, which is not looked into, and attributes that no store has.

    What an earlier version has dropped is passed over.
    """
    yield from (f"{path}@{key}" for key in part.attrs if key not in OUR_NOTES)
    for key in part if isinstance(part, h5py.Group) else ():
        below = f"{path}/{key}".strip("/")
        if below in known and isinstance(part.get(key, getlink=True), h5py.HardLink):
            yield from _strange(part[key], below, known)
        elif below != "dropped":
            yield below


def chunk_places(dataset: h5py.Dataset, most: int) -> list[int]:
    """Return where each shard of a dataset begins in the file.

    Raises:
        ValueError: if a file of ``most`` bytes cannot hold all of them.
    """
    rows = dataset.chunks[0]
    size = rows * dataset.shape[1] * dataset.dtype.itemsize
    shards = dataset.shape[0] // rows
    if shards * size > most or shards > MOST_SHARDS:  # all chunks are allocated from the start
        raise ValueError(f"{dataset.name} has {shards} shards of {size} bytes, the file has {most} bytes")
    found: dict[int, int] = {}
    dataset.id.chunk_iter(lambda chunk: found.__setitem__(chunk.chunk_offset[0] // rows, chunk.byte_offset))
    places = [found[number] for number in range(shards)]
    if places and max(places) + size > most:
        raise ValueError(f"{dataset.name} has a shard at byte {max(places)}, the file has {most} bytes")
    return places


class _FileOf(io.RawIOBase):
    """An open file as h5py wants it, so that HDF5 reads this file and no other of the same name."""

    def __init__(self, file: OpenFile) -> None:
        self._opened, self._place = file, 0

    @override
    def readable(self) -> bool:
        return True

    @override
    def seekable(self) -> bool:
        return True

    @override
    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._place = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._opened.size}[whence]
        return self._place

    @override
    def readinto(self, buffer: Any) -> int:
        count = max(0, min(len(buffer), self._opened.size - self._place))
        self._opened.check(self._place, count)
        self._opened.read_into(np.frombuffer(buffer, np.uint8, count), self._place)
        _check_metadata(bytes(memoryview(buffer)[:146]))
        self._place += count
        return count


def _check_metadata(start: bytes) -> None:
    """Refuse metadata on which HDF5 would hang or crash, judged by the first bytes of what it reads.

    Raises:
        ValueError: if it is the header of a list of too many chunks, of a heap with blocks of impossible sizes, or of a
            file with offsets of another size.
    """
    if start[:4] == b"EAHD" and int.from_bytes(start[44:52], "little") > MOST_SHARDS:
        raise ValueError(f"it lists more than {MOST_SHARDS} chunks of a dataset")
    if start[:4] == b"FRHP" and len(start) == 146:
        width, first, largest = (int.from_bytes(start[a:b], "little") for a, b in ((110, 112), (112, 120), (120, 128)))
        if not (width.bit_count() == first.bit_count() == largest.bit_count() == 1 and first <= largest < 1 << 32):
            raise ValueError("the blocks of one of its heaps have impossible sizes")
    sizes = slice(9, 11) if start[8:9] >= b"\2" else slice(13, 15)
    if start[:8] == b"\x89HDF\r\n\x1a\n" and start[sizes] not in (b"", b"\x08\x08"):
        raise ValueError("its offsets do not have 8 bytes, expected those of a file that ser-extract has written")


def _open_remote(files: RemoteFiles) -> h5py.File:
    try:
        return h5py.File(files.ask("open", files.root, block_size=REMOTE_BLOCK, cache_type="blockcache"), "r")
    except OSError as error:
        raise StoreError(f"{files.root} cannot be opened as HDF5: {error}") from None
