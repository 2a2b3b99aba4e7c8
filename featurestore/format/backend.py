"""The base of backends: a store has the same parts in a Zarr folder and in an HDF5 file.

A Zarr folder is written in place. An HDF5 file is written whole and replaced whole: until then, new content lies in a
folder beside it (`featurestore.format.draft`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, TypeVar

from featurestore.format.documents import Root, Table, Tree, checked
from featurestore.format.files import Array, Files
from featurestore.format.layout import ArrayLayout
from featurestore.format.plan import FeatureSpec, Ints
from featurestore.format.shard import BlockReader
from featurestore.shared.errors import StoreError

T = TypeVar("T")
Record = dict[str, Any]


class Backend(ABC):
    """How the parts of a store lie on the disk.

    Args:
        files: of the store.
    """

    def __init__(self, files: Files) -> None:
        self.files = files

    @property
    def path(self) -> str:
        """The path or URL of the store."""
        return self.files.root

    @abstractmethod
    def exists(self) -> bool:
        """Return whether there is a store."""

    def interrupted(self) -> bool:
        """Return whether a change was begun and not finished."""
        return False

    def at_once(self, read: Callable[[], T]) -> T:
        """Call ``read``, which reads several parts of the store, so that it sees them in the state of one moment."""
        return read()

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
        """Return a reader of a shard, see `featurestore.format.shard.open_zarr_shard`."""

    @abstractmethod
    def shard_file(self, feature: str, array: str, number: int) -> tuple[Files, str, int]:
        """Return where a shard is: the files, which of them, and the byte where it begins."""

    def root(self) -> Tree:
        """Return the attributes of the store.

        Raises:
            StoreError: if they are damaged.
        """
        return checked(Root, self.attributes(), f"{self.path}: attributes")

    def columns(self) -> dict[str, str]:
        """Return the columns of the utterance table in their order, and the kind of each.

        Raises:
            StoreError: if they are damaged.
        """
        return dict(checked(Table, self.attributes("table"), f"{self.path}: table")["columns"])

    def spec(self, feature: str) -> FeatureSpec:
        """Return the spec of a feature.

        Raises:
            StoreError: if its attributes are damaged.
        """
        try:
            return FeatureSpec(**self.attributes(f"features/{feature}"))
        except (TypeError, ValueError) as error:
            problem = " ".join(str(error).split())  # one line
            raise StoreError(f"{self.path}: the attributes of the feature {feature} are damaged: {problem}") from None
