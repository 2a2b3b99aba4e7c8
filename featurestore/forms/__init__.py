"""The two forms of a store, which have the same content: a Zarr folder and an HDF5 file. Which one: by the suffix.

A Zarr folder is written in place. An HDF5 file is written whole and replaced whole: until then, what is new lies in a
folder beside it (`featurestore.forms.draft`).
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from featurestore.documents import Root, Table, Tree, checked
from featurestore.errors import StoreError
from featurestore.files import Array, Files, LocalFiles, open_files
from featurestore.layout import ArrayLayout
from featurestore.plan import FeatureSpec, Ints
from featurestore.shard import BlockReader

if TYPE_CHECKING:
    from featurestore.forms.zarr import ZarrForm

T = TypeVar("T")
Record = dict[str, Any]
HDF5_SUFFIXES = (".h5", ".hdf5")


class Form(ABC):
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
        """Return what ``read`` gives, which reads several parts, as they all were at one moment."""
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
        """Return a reader of a shard, see `featurestore.shard.open_zarr_shard`."""

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
        """Return what a feature is.

        Raises:
            StoreError: if it cannot be understood.
        """
        try:
            return FeatureSpec(**self.attributes(f"features/{feature}"))
        except (TypeError, ValueError) as error:
            problem = " ".join(str(error).split())  # one line
            raise StoreError(f"{self.path}: what the feature {feature} is cannot be understood: {problem}") from None


def open_form(path: str | Path, partial: bool = False) -> Form:
    """Return the form of the store at ``path``, which need not exist.

    Args:
        path: of the store, or its URL.
        partial: also see what is written already of an HDF5 file that is to take the place of the one there; of a first
            one it is seen anyway.

    Raises:
        StoreError: if the suffix belongs to neither form.
    """
    files = open_files(path)
    if not _is_hdf5(path, files):
        from featurestore.forms.zarr import ZarrForm

        return ZarrForm(files)
    from featurestore.forms.hdf5 import Hdf5Form, refuse_journal

    form = Hdf5Form(files)
    if isinstance(files, LocalFiles):
        refuse_journal(Path(os.path.realpath(files.root)))
    if isinstance(files, LocalFiles) and (partial or not form.exists()):
        from featurestore.forms.draft import DraftForm

        draft = DraftForm(Path(files.root))
        reason = draft.contradiction() if draft.begun() else ""
        if reason and not form.exists():
            raise StoreError(reason)
        return draft if draft.begun() and not reason else form
    return form


def open_form_to_write(path: str | Path) -> ZarrForm:
    """Return the form in which the store at ``path`` is written.

    Raises:
        StoreError: if the suffix belongs to neither form, or the store is not on this machine.
    """
    files = open_files(path)
    if not isinstance(files, LocalFiles):
        raise StoreError(f"{path} can be read, not written: write the store to this machine's disk and copy it")
    if _is_hdf5(path, files):
        from featurestore.forms.draft import DraftForm

        return DraftForm(Path(files.root))
    from featurestore.forms.zarr import ZarrForm

    return ZarrForm(files)


def _is_hdf5(path: str | Path, files: Files) -> bool:
    suffix = Path(files.root).suffix
    if suffix not in ("", ".zarr", *HDF5_SUFFIXES):
        known = ", ".join((".zarr", *HDF5_SUFFIXES))
        raise StoreError(f"{path} ends in {suffix!r}; expected one of {known}")
    return suffix in HDF5_SUFFIXES
