"""A store that is a folder in plain Zarr v3."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self, TypeVar

import numpy as np
from typing_extensions import override

from featurestore.format.atomic import naming, publish, sync_folder, write_file
from featurestore.format.backend import Backend, Record
from featurestore.format.documents import Manifest, ShardRecord, Tree, as_json, checked, parsed
from featurestore.format.files import Array, Files
from featurestore.format.layout import ArrayLayout
from featurestore.format.local_files import LocalFiles
from featurestore.format.plan import Ints
from featurestore.format.shard import BlockReader, ShardWriter, ZarrShardWriter, open_zarr_shard
from featurestore.format.zarr_documents import array_document, group_document, sharded_document
from featurestore.shared.errors import MALFORMED, StoreError

T = TypeVar("T")
STAGED = ".change"
"""The folder with the new state of every file that a change writes; once it has this name, the change is made."""
REMOVED = ".removed"
ELEMENTS = ("bool", "int64", "float64", "uint8")
"""The types that the elements of an array of one dimension can have."""
PATIENCE = (0.01, 0.05, 0.2, 0.5, 1.0)
"""Seconds to wait between attempts to read a store that is being changed."""


class ZarrBackend(Backend):
    """A folder with a file per shard and array, and small files."""

    compresses: ClassVar[bool] = True
    """Whether frames can be compressed."""
    shard_writer: ClassVar[type[ShardWriter]] = ZarrShardWriter

    def __init__(self, files: Files) -> None:
        super().__init__(files)
        self._root = Path(files.root)

    @override
    def exists(self) -> bool:
        return self.files.exists("zarr.json")

    @override
    def interrupted(self) -> bool:
        return self.files.exists(STAGED)

    def at_once(self, read: Callable[[], T]) -> T:
        """Call ``read`` so that it sees the store in the state of one moment; wait a little while it is being changed.

        Raises:
            StoreError: if others keep changing it.
        """
        for seconds in (*PATIENCE, None):
            before = self._moment()
            try:
                found = read()
            except (StoreError, OSError):
                if before == self._moment():
                    raise
            else:
                if before is not None and before == self._moment():
                    return found
            if seconds is not None:
                time.sleep(seconds)
        raise StoreError(f"{self.path} is being changed, or a change was interrupted: run ser-store repair {self.path}")

    def _moment(self) -> object:
        """Return something that differs after every change of the table; None while a change is under way."""
        if self.interrupted():
            return None
        if not self.files.exists("zarr.json"):
            return "there is none"
        if not isinstance(self.files, LocalFiles):
            return self.files.read("zarr.json")
        found = os.stat(self._root / "zarr.json")
        return found.st_ino, found.st_mtime_ns, found.st_size

    @override
    def attributes(self, group: str = "") -> Tree:
        with self._metadata(group) as metadata:
            return dict(metadata.get("attributes", {}))

    @override
    def array(self, path: str) -> Array:
        with self._metadata(path) as metadata:
            dtype, (size,) = np.dtype(ELEMENTS[ELEMENTS.index(metadata["data_type"])]), metadata["shape"]
            content = self.files.read(f"{path}/c/0", size * dtype.itemsize) if size else b""
        return np.frombuffer(content, dtype.newbyteorder("<")).astype(dtype, copy=False)

    @override
    def features(self) -> list[str]:
        return [name for name in self.files.folders("features") if name[0] != "."]

    @override
    def shard_shape(self, feature: str, array: str) -> tuple[int, int, int]:
        with self._metadata(f"features/{feature}/{array}") as metadata:
            layers, length, width = metadata["chunk_grid"]["configuration"]["chunk_shape"]
            return int(layers), int(length), int(width)

    @override
    def manifest(self, feature: str) -> Tree | None:
        path = f"features/{feature}/manifest.json"
        return checked(Manifest, self._json(path), self.files.place(path)) if self.files.exists(path) else None

    @override
    def records(self, feature: str) -> dict[int, Record]:
        folder = f"features/{feature}/shards"
        names = [name.removesuffix(".json") for name in self.files.children(folder) if name.endswith(".json")]
        paths = {int(name): f"{folder}/{name}.json" for name in names if name.isdecimal()}
        return {
            number: checked(ShardRecord, self._json(path), self.files.place(path)) for number, path in paths.items()
        }

    @override
    def open_shard(
        self, feature: str, array: str, number: int, layout: ArrayLayout, starts: Ints, counts: Ints
    ) -> BlockReader:
        path = shard_path(feature, array, number)
        return open_zarr_shard(partial(self.files.open, path), layout, self.files.place(path), starts, counts)

    @override
    def shard_file(self, feature: str, array: str, number: int) -> tuple[Files, str, int]:
        return self.files, shard_path(feature, array, number), 0

    def recover(self) -> None:
        """Finish or undo what a killed process left.

        Raises:
            StoreError: if the store holds a symbolic link, through which other files would be changed.
        """
        self._settle()
        self._clear_temporaries()

    def _clear_temporaries(self, feature: str = "") -> None:
        """Remove the unfinished files that a killed process left, of one feature or of all."""
        for temporary in (self._root / "features" / feature).rglob(".*.tmp"):
            if temporary.is_file():
                temporary.unlink()

    def _settle(self) -> None:
        """Finish a change that is made, and clear away the rest of one that is not."""
        _refuse_links(self._root)
        staged = self._root / STAGED
        if staged.exists():
            _apply(staged, self._root)
        for gone in [self._root / f"{STAGED}.tmp", *self._root.glob(f"features/.*{REMOVED}")]:
            shutil.rmtree(gone, ignore_errors=True)

    def begun(self) -> bool:
        """Return whether something was written that readers do not see yet."""
        return False

    def others(self) -> list[str]:
        """Return the names of everything in the folder, for one that is not a store."""
        return [name for name in self.files.children("") if name[0] != "."]

    def at_once_backend(self) -> ZarrBackend:
        """Return the backend for a small change that is made whole or not at all; here every change is."""
        return self

    def publish(self) -> None:
        """Let readers see everything that was written; here they see it at once."""

    def discard(self) -> None:
        """Discard what readers do not see yet; here there is nothing of that kind."""

    def room(self, size: int) -> int:
        """Return how many bytes must be free on the disk to write shards of so many bytes."""
        return size

    def check_layout(self, path: str, layout: ArrayLayout) -> None:
        """Check that this backend can hold a sharded array.

        Raises:
            StoreError: if it cannot.
        """

    @contextmanager
    def change(self) -> Iterator[Change]:
        """Yield a change of the store, which is made if the ``with`` block raises no error."""
        self._settle()
        new = not self._root.exists()
        stage = self._root.with_name(f".{self._root.name}.tmp") if new else self._root / f"{STAGED}.tmp"
        shutil.rmtree(stage, ignore_errors=True)
        stage.mkdir(parents=True)
        change = Change(stage)
        try:
            yield change
            change.sync()
            publish(stage, self._root if new else self._root / STAGED)
        except BaseException:
            shutil.rmtree(stage, ignore_errors=True)
            raise
        self._settle()
        for feature in change.removed:
            self._remove(feature)
        self._settle()

    def _remove(self, feature: str) -> None:
        os.rename(self._root / "features" / feature, self._root / "features" / f".{feature}{REMOVED}")

    def write_shard(self, feature: str, number: int, layouts: dict[str, ArrayLayout]) -> ShardFiles:
        """Return a shard to be written."""
        return ShardFiles(
            {
                array: self.shard_writer(self._root / shard_path(feature, array, number), layout)
                for array, layout in layouts.items()
            }
        )

    def write_record(self, feature: str, number: int, record: Record) -> None:
        """Write the record of a shard, by which it counts as written."""
        write_file(self._root / "features" / feature / "shards" / f"{number}.json", as_json(record))

    def drop_record(self, feature: str, number: int) -> None:
        """Forget the record of a shard, if it has one."""
        (self._root / "features" / feature / "shards" / f"{number}.json").unlink(missing_ok=True)

    def drop_records(self, feature: str) -> None:
        """Forget the records of all shards, and clear away what a killed worker left."""
        self._clear_temporaries(feature)
        shutil.rmtree(self._root / "features" / feature / "shards", ignore_errors=True)

    @contextmanager
    def _metadata(self, node: str) -> Iterator[Tree]:
        """Yield the ``zarr.json`` of a group or array; an error in using it becomes a StoreError."""
        metadata = self._json(join(node, "zarr.json"))
        try:
            yield metadata
        except (*MALFORMED, FileNotFoundError) as error:
            raise StoreError(f"{self.files.place(node)} is damaged: {error!r}") from None

    def _json(self, path: str) -> Tree:
        try:
            return parsed(self.files.read(path), self.files.place(path))
        except FileNotFoundError:
            raise StoreError(f"{self.files.place(path)} is missing: the store is damaged") from None


class Change:
    """A change of the table, attributes or plans, made whole or not at all: a folder with every new file."""

    def __init__(self, stage: Path) -> None:
        self._stage = stage
        self.removed: list[str] = []

    def group(self, path: str, attributes: Tree) -> None:
        """Make a group, or give it other attributes."""
        self._write(join(path, "zarr.json"), as_json(group_document(attributes)))

    def array(self, path: str, values: Array, dimension: str) -> None:
        """Write a one-dimensional array."""
        self._write(f"{path}/zarr.json", as_json(array_document(values.shape, values.dtype, [dimension])))
        if values.size:
            self._write(f"{path}/c/0", np.ascontiguousarray(values, values.dtype.newbyteorder("<")).tobytes())

    def sharded(self, path: str, layout: ArrayLayout, shards: int) -> None:
        """Make a sharded array, or give it more shards."""
        self._write(f"{path}/zarr.json", as_json(sharded_document(layout, shards)))

    def manifest(self, feature: str, manifest: Tree) -> None:
        """Write the manifest of a feature."""
        self._write(f"features/{feature}/manifest.json", as_json(manifest))

    def remove(self, feature: str) -> None:
        """Remove a feature."""
        self.removed.append(feature)

    def sync(self) -> None:
        """Flush all files of the change to the disk."""
        for folder, _, files in os.walk(self._stage):
            for name in files:
                with open(os.path.join(folder, name), "rb") as file:
                    os.fsync(file.fileno())
            sync_folder(Path(folder))

    def _write(self, path: str, content: bytes) -> None:
        file = self._stage / path
        file.parent.mkdir(parents=True, exist_ok=True)
        with naming(file):
            file.write_bytes(content)


class ShardFiles(AbstractContextManager["ShardFiles"]):
    """The arrays of one shard, open for writing; after an error none of them stays."""

    def __init__(self, arrays: dict[str, ShardWriter]) -> None:
        self.arrays = arrays

    def close(self) -> dict[str, dict[str, int]]:
        """Put everything on the disk, and return the ``bytes`` and ``crc32c`` of each array."""
        return {array: writer.close() for array, writer in self.arrays.items()}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for writer in self.arrays.values():
            writer.abort()


def _apply(staged: Path, root: Path) -> None:
    """Move the files of a change to their places; this can be interrupted and repeated."""
    _move(staged, root)
    shutil.rmtree(staged)
    sync_folder(root)


def _move(staged: Path, place: Path) -> None:
    """Move the content of a folder into another one; folders that do not exist there yet are moved as a whole."""
    for entry in sorted(staged.iterdir()):
        target = place / entry.name
        if entry.is_dir() and target.exists():
            _move(entry, target)
        else:
            os.replace(entry, target)
    sync_folder(place)


def _refuse_links(root: Path) -> None:
    """Refuse to write to a store that holds symbolic links: they may lead to other people's files."""
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = os.path.join(folder, name)
            if os.path.islink(path):
                raise StoreError(f"{path} is a symbolic link: a store may be behind one, but holds none; remove it")


def shard_path(feature: str, array: str, number: int) -> str:
    """Return the file of a shard."""
    return f"features/{feature}/{array}/c/0/{number}/0"


def join(group: str, name: str) -> str:
    """Return the path of a member of a group; the path of the root is empty."""
    return f"{group}/{name}" if group else name
