"""The two forms of a store, which have the same content: a Zarr folder and an HDF5 file. Which one: by the suffix."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, ClassVar

from featurestore.errors import StoreError
from featurestore.files import Array, Files, open_files
from featurestore.layout import ArrayLayout
from featurestore.plan import Ints
from featurestore.shard import BlockReader, BlockWriter

Tree = dict[str, Any]
Record = dict[str, Any]
HDF5_SUFFIXES = (".h5", ".hdf5")


class Change(ABC):
    """Changes to the small parts of a store, all of which happen or none."""

    @abstractmethod
    def group(self, path: str, attributes: Tree) -> None:
        """Make a group, or give it other attributes."""

    @abstractmethod
    def array(self, path: str, values: Array, dimension: str) -> None:
        """Write a one-dimensional array."""

    @abstractmethod
    def sharded(self, path: str, layout: ArrayLayout, shards: int) -> None:
        """Make a sharded array, or give it more shards."""

    @abstractmethod
    def manifest(self, feature: str, manifest: Tree) -> None:
        """Write the manifest of a feature."""

    @abstractmethod
    def remove(self, feature: str) -> None:
        """Remove a feature."""


class ShardFiles(AbstractContextManager["ShardFiles"], ABC):
    """The arrays of one shard, open for writing; left with an error, nothing of them stays."""

    arrays: dict[str, BlockWriter]

    @abstractmethod
    def close(self) -> dict[str, dict[str, int]]:
        """Put everything on the disk, and return the ``bytes`` and ``crc32c`` of each array."""


class Form(ABC):
    """How the parts of a store lie on the disk.

    Args:
        files: of the store.
    """

    compresses: ClassVar[bool]
    """Whether frames can be compressed."""

    def __init__(self, files: Files) -> None:
        self.files = files

    @abstractmethod
    def exists(self) -> bool:
        """Return whether there is a store."""

    @abstractmethod
    def interrupted(self) -> bool:
        """Return whether a change was begun and not finished."""

    @abstractmethod
    def attributes(self, group: str = "") -> Tree:
        """Return the attributes of a group."""

    @abstractmethod
    def array(self, path: str) -> Array:
        """Return a one-dimensional array."""

    @abstractmethod
    def features(self) -> list[str]:
        """Return the names of the features that are planned."""

    @abstractmethod
    def shard_shape(self, feature: str, array: str) -> tuple[int, int, int]:
        """Return the shape of a shard of an array."""

    @abstractmethod
    def manifest(self, feature: str) -> Tree | None:
        """Return the manifest of a feature, None before the first commit."""

    @abstractmethod
    def records(self, feature: str) -> dict[int, Record]:
        """Return the records of the shards that have been written since the last commit."""

    @abstractmethod
    def open_shard(
        self, feature: str, array: str, number: int, layout: ArrayLayout, starts: Ints, counts: Ints
    ) -> BlockReader:
        """Return a reader of a shard, see `featurestore.shard.open_zarr_shard`."""

    @abstractmethod
    def shard_place(self, feature: str, array: str, number: int) -> tuple[str, int]:
        """Return the file that holds a shard, and the byte where it begins."""

    @abstractmethod
    def recover(self) -> None:
        """Finish or take back a change that was interrupted."""

    @abstractmethod
    def change(self) -> AbstractContextManager[Change]:
        """Return a change of the store, which happens when the ``with`` block is left without an error."""

    @abstractmethod
    def write_shard(self, feature: str, number: int, layouts: dict[str, ArrayLayout]) -> ShardFiles:
        """Return a shard to be written."""

    @abstractmethod
    def write_record(self, feature: str, number: int, record: Record) -> None:
        """Write the record of a shard, by which it counts as written."""

    @abstractmethod
    def drop_record(self, feature: str, number: int) -> None:
        """Forget the record of a shard, if it has one."""

    @abstractmethod
    def clear(self, feature: str, keep_records: bool) -> None:
        """Clear away what a killed writer left, and the records unless they are to be kept."""


def open_form(path: str | Path) -> Form:
    """Return the form of the store at ``path``, which need not exist yet.

    Raises:
        StoreError: if the suffix belongs to neither form.
    """
    files = open_files(path)
    suffix = Path(files.root).suffix
    if suffix in HDF5_SUFFIXES:
        from featurestore.forms.hdf5 import Hdf5Form

        return Hdf5Form(files)
    if suffix not in ("", ".zarr"):
        known = ", ".join((".zarr", *HDF5_SUFFIXES))
        raise StoreError(f"{path} ends in {suffix!r}; expected one of {known}")
    from featurestore.forms.zarr import ZarrForm

    return ZarrForm(files)
