"""An HDF5 file that is being changed: new content lies in a folder beside the file, the draft.

The draft is laid out like a Zarr store, but holds only what is new, and its shards have no index: they have the bytes
of the chunks that they become. Readers of the file see nothing of the draft until `DraftBackend.publish` has written a
new file with the content of both, and renamed it. So the file is always whole, even if a process is killed.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from math import prod
from pathlib import Path
from typing import Any, ClassVar

from pydantic_core import from_json
from typing_extensions import override

from featurestore.format.atomic import publish, write_file
from featurestore.format.documents import Tree, as_json
from featurestore.format.files import Array, Files, OpenFile
from featurestore.format.fingerprint import fingerprint, plan_of
from featurestore.format.hdf5 import Hdf5Backend
from featurestore.format.layout import ArrayLayout, check_plan
from featurestore.format.local_files import LocalFiles
from featurestore.format.plan import Ints
from featurestore.format.shard import BlockReader, ShardWriter
from featurestore.format.zarr import Change, ZarrBackend, join, shard_path
from featurestore.shared.errors import MALFORMED, StoreError

LARGEST_CHUNK = (1 << 32) - 1
"""Bytes of a chunk that all versions of HDF5 can read."""
NOTE = ".draft.json"
"""``base``: the fingerprint of the file that the draft changes, null if there was none; ``removed``: the features that
it removes; ``published``: the fingerprint of the file that replaces it, once that is written."""


class DraftFiles(LocalFiles):
    """The files of the draft; if all of it is gone, it was published, and a missing file is no damage."""

    def _open_file(self, path: str) -> OpenFile:
        try:
            return super()._open_file(path)
        except FileNotFoundError:
            if os.path.exists(self.root):
                raise
            raise _changed(self.root) from None


class DraftBackend(ZarrBackend):
    """The HDF5 file at ``path``, as its draft changes it."""

    compresses: ClassVar[bool] = False
    shard_writer: ClassVar[type[ShardWriter]] = ShardWriter

    def __init__(self, path: Path, resumable: bool = True) -> None:
        self._file = Path(os.path.realpath(path))  # the draft lies beside the file itself, if the path is a link
        kind = "draft" if resumable else "change"
        super().__init__(DraftFiles(str(self._file.with_name(f".{self._file.name}.{kind}"))))
        self._shown, self._resumable = path, resumable
        self._look_again()

    @property
    @override
    def path(self) -> str:
        return str(self._shown)

    @override
    def begun(self) -> bool:
        if self._root.is_symlink():  # writing would change what the link leads to
            raise StoreError(f"{self._root} is a symbolic link, which is not followed: remove it")
        return self._root.exists()

    @override
    def exists(self) -> bool:
        return super().exists() or self._base is not None

    @override
    def attributes(self, group: str = "") -> Tree:
        base = self._older(join(group, "zarr.json"))
        return base.attributes(group) if base else super().attributes(group)

    @override
    def array(self, path: str) -> Array:
        base = self._older(f"{path}/zarr.json")
        return base.array(path) if base else super().array(path)

    @override
    def others(self) -> list[str]:
        return []

    @override
    def features(self) -> list[str]:
        old = set() if self._base is None else set(self._base.features()) - set(self._note["removed"])
        return sorted(old | set(super().features()))

    @override
    def shard_shape(self, feature: str, array: str) -> tuple[int, int, int]:
        base = self._older(f"features/{feature}/{array}/zarr.json")
        return base.shard_shape(feature, array) if base else super().shard_shape(feature, array)

    @override
    def manifest(self, feature: str) -> Tree | None:
        base = self._older(f"features/{feature}/manifest.json")
        return base.manifest(feature) if base else super().manifest(feature)

    @override
    def open_shard(
        self, feature: str, array: str, number: int, layout: ArrayLayout, starts: Ints, counts: Ints
    ) -> BlockReader:
        path = shard_path(feature, array, number)
        base = self._older(path)
        if base:
            return base.open_shard(feature, array, number, layout, starts, counts)
        return BlockReader(partial(self.files.open, path), layout)

    @override
    def shard_file(self, feature: str, array: str, number: int) -> tuple[Files, str, int]:
        base = self._older(shard_path(feature, array, number))
        return base.shard_file(feature, array, number) if base else super().shard_file(feature, array, number)

    def _older(self, path: str) -> Hdf5Backend | None:
        """Return the backend of the file if the file holds the path, and not the draft; otherwise None.

        Raises:
            OSError: if the draft is gone: its content is in another file now.
        """
        if self._folder not in (None, _inode(self._root)):
            raise _changed(self.path)
        planned_anew = "/".join([*path.split("/")[:2], "zarr.json"])  # a feature is wholly where its attributes are
        in_folder = self.files.exists(path) or (path.startswith("features/") and self.files.exists(planned_anew))
        return None if in_folder else self._base

    @property
    def _note(self) -> Tree:
        """What the draft changes: see `NOTE`."""
        if not self.files.exists(NOTE):
            return {"base": None, "removed": [], "published": None}
        try:
            note = from_json(self.files.read(NOTE))
            return {"base": note["base"], "removed": list(map(str, note["removed"])), "published": note["published"]}
        except MALFORMED as error:
            raise StoreError(f"{self._root} is damaged: {error!r}; delete it") from None

    def contradiction(self) -> str:
        """Return why the draft is not one of the present file; empty if it is."""
        base, published, found = self._note["base"], self._note["published"], _fingerprint_of(self._base)
        if found == base or (published is not None and found == published):
            return ""
        delete = f"or delete {self._root} to go on without that change"
        if found is None:
            return f"{self.path} is gone, but has an unfinished change: put it back to finish the change, {delete}"
        if base is None:
            return (
                f"{self.path} appeared while an unfinished change was making it: move it away to finish that, {delete}"
            )
        return (
            f"{self.path} is not the file that an unfinished change was changing: put that one back to finish it, "
            f"{delete}"
        )

    def recover(self) -> None:
        """Clear away what a killed process left, and check that the draft is one of the present file.

        Raises:
            StoreError: if it is one of another file.
        """
        self._look_again()
        for name in os.listdir(self._file.parent):
            if re.fullmatch(rf"\.{re.escape(self._file.name)}(\.(draft|change)\.(\d+|gone))?\.tmp", name):
                _delete(self._file.with_name(name))
        _delete(self._file.with_name(f".{self._file.name}.change"))  # a small change that was killed has not happened
        if not self.begun():
            return
        reason = self.contradiction()
        if reason:
            raise StoreError(reason)
        if self._note["published"] is not None and self._note["published"] == _fingerprint_of(self._base):
            self.discard()
        else:
            self._settle()
            self._clear_temporaries()

    @contextmanager
    @override
    def change(self) -> Iterator[Change]:
        self._begin()
        with super().change() as change:
            yield change

    @override
    def write_shard(self, feature: str, number: int, layouts: dict[str, ArrayLayout]) -> Any:
        self._begin()
        return super().write_shard(feature, number, layouts)

    def _begin(self) -> None:
        """Make the draft, if there is none.

        Raises:
            StoreError: if the file cannot take a change.
        """
        if self.begun():
            return
        if self._base:
            self._check_base(self._base)
        temporary = self._root.with_name(f"{self._root.name}.{os.getpid()}.tmp")
        _delete(temporary)
        try:
            write_file(temporary / NOTE, as_json({**self._note, "base": _fingerprint_of(self._base)}))
            if self._base and not self._file.stat().st_mode & 0o077:
                temporary.chmod(0o700)  # the content is for nobody else
            publish(temporary, self._root)
        except OSError:  # the disk is full, or another process was faster
            _delete(temporary)
            if not self.begun():
                raise
        self._folder = _inode(self._root)

    def _check_base(self, base: Hdf5Backend) -> None:
        """Refuse a file that cannot be replaced without loss, before the work is done."""
        if not os.access(self._file, os.W_OK):
            raise StoreError(f"{self.path} is read-only, but a change would replace it: make it writable")
        others = base.others()
        if others:
            some = ", ".join(others[:5])
            raise StoreError(
                f"{self.path} also holds {some}, which is no part of a store and would be lost, since the file is "
                "written anew: move it to another file"
            )
        for feature in base.features() if self._resumable else ():  # a small change may remove what is damaged
            manifest = base.manifest(feature)
            if manifest is not None:
                check_plan(plan_of(base, feature), manifest["plan"], f"{feature} in {self.path}")

    def _remove(self, feature: str) -> None:
        note = self._note
        write_file(self._root / NOTE, as_json({**note, "removed": [*note["removed"], feature]}))
        if (self._root / "features" / feature).exists():
            super()._remove(feature)

    @override
    def at_once_backend(self) -> ZarrBackend:
        return DraftBackend(self._shown, resumable=False)

    def publish(self) -> None:
        """Write a new file with the content of the file and the draft, rename it, and remove the draft.

        Raises:
            StoreError: if a part of the store is damaged, the disk has no room, or another file has appeared.
        """
        if not self.begun():
            return
        from featurestore.format.packing import write_hdf5

        temporary = self._file.with_name(f".{self._file.name}.tmp")
        _delete(temporary)
        try:
            write_hdf5(self, temporary)
            note = {**self._note, "published": _fingerprint_of(_open_file(temporary))}
            write_file(self._root / NOTE, as_json(note))
            if self._file.exists():
                _give_rights(self._file, temporary)
            if _fingerprint_of(_open_file(self._file)) != note["base"]:  # it was replaced meanwhile
                self._look_again()
                raise StoreError(self.contradiction())
            publish(temporary, self._file)
        except BaseException:
            _delete(temporary)
            raise
        self.discard()

    def discard(self) -> None:
        """Remove the draft."""
        if self.begun():
            gone = self._root.with_name(f"{self._root.name}.gone.tmp")
            _delete(gone)
            publish(self._root, gone)
            _delete(gone)
        self._look_again()

    def _look_again(self) -> None:
        """Forget the open files: others may have replaced them."""
        self.files = DraftFiles(self.files.root)
        self._base = _open_file(self._file)
        self._folder = _inode(self._root)

    @override
    def check_layout(self, path: str, layout: ArrayLayout) -> None:
        size = prod(layout.shard) * layout.dtype.itemsize
        if size > LARGEST_CHUNK:
            raise StoreError(
                f"a shard of {path} would have {size / 1e9:.1f} GB, an HDF5 file holds at most "
                f"{LARGEST_CHUNK / 1e9:.1f}: give a path that ends in .zarr, or a smaller dtype"
            )

    def room(self, size: int) -> int:
        """Return how many bytes must be free on the disk for shards of so many bytes, and then the whole file."""
        old = self._file.stat().st_size if self._file.exists() else 0
        return 2 * size + old + sum(file.stat().st_blocks * 512 for file in self._root.rglob("*") if file.is_file())


def _changed(path: str) -> OSError:
    return OSError(f"{path} has been finished or changed since it was opened: open it again")


def _open_file(path: Path) -> Hdf5Backend | None:
    return Hdf5Backend(LocalFiles(str(path))) if path.exists() else None


def _fingerprint_of(backend: Hdf5Backend | None) -> str | None:
    return None if backend is None else fingerprint(backend)


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return None


def _give_rights(old: Path, new: Path) -> None:
    """Copy the owner, if this process may, and the access rights of a file to the one that replaces it."""
    found = old.stat()
    with suppress(PermissionError):
        os.chown(new, found.st_uid, found.st_gid)
    new.chmod(stat.S_IMODE(found.st_mode))


def _delete(path: Path) -> None:
    """Remove a file, or a folder with all of its content, but never the target of a link."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
