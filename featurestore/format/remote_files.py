"""The files of a store behind any fsspec URL, such as s3://bucket/name.zarr."""

from __future__ import annotations

import os
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from typing_extensions import override

from featurestore.format.files import Array, Files, OpenFile, check_size, truncated
from featurestore.shared.errors import StoreError


class RemoteFiles(Files):
    """Files behind an fsspec URL, read by ranges."""

    remote: ClassVar[bool] = True

    @override
    def read(self, path: str, size: int | None = None) -> bytes:
        place = self.place(path)
        content = bytes(self.ask("cat_file", place))
        check_size(place, len(content), size)
        return content

    @override
    def exists(self, path: str) -> bool:
        try:
            self.ask("info", self.place(path))
        except FileNotFoundError as error:
            if isinstance(error.__cause__, OSError):  # a web server that does not answer
                raise StoreError(f"{self.root} cannot be reached: {error.__cause__}") from None
            return False
        except OSError as error:
            raise StoreError(f"{self.root} cannot be reached: {error.__cause__ or error}") from None
        return True

    def ask(self, what: str, place: str, **how: Any) -> Any:
        """Call a method of the file system for a path or URL, and return the result.

        Raises:
            FileNotFoundError: if there is nothing at that place.
            OSError: if the server does not answer, which tells nothing about what is there.
        """
        try:
            return getattr(self.filesystem, what)(place, **how)
        except (OSError, StoreError):
            raise
        except Exception as error:  # no credentials, no network …: file systems have errors of their own
            raise OSError(f"{place} cannot be read: {error}") from error

    @override
    def children(self, path: str) -> list[str]:
        return sorted(self._list(path))

    @override
    def folders(self, path: str) -> list[str]:
        return sorted(name for name, kind in self._list(path).items() if kind != "file")

    def _list(self, path: str) -> dict[str, str]:
        """Return the names in a folder, and the type of each."""
        try:
            entries = self.ask("ls", self.place(path), detail=True)
            found = {entry["name"].rstrip("/"): entry["type"] for entry in entries}
        except FileNotFoundError:
            found = {}
        folder = f"{self._root_path}/{path}"  # an empty object may stand for it
        listed = {name.rpartition("/")[2]: kind for name, kind in found.items() if name != folder}
        if "zarr.json" not in listed and self.exists(f"{path}/zarr.json"):
            raise StoreError(
                f"{self.place(path)} is there, but its server does not list folders: copy the store to this "
                "machine, or read it from a server that lists them, or as one file (ser-store convert STORE NAME.h5)"
            )
        return listed

    def _open_file(self, path: str) -> OpenFile:
        return _RemoteFile(self, self.place(path))

    @property
    def filesystem(self) -> Any:
        """The fsspec file system, one per process: its event loop does not survive a fork."""
        with self._lock:  # no thread may see an unfinished one, or that of the parent process
            if self.__dict__.get("_process") != os.getpid():
                import fsspec

                try:
                    self._filesystem, self._root_path = fsspec.core.url_to_fs(self.root, skip_instance_cache=True)
                except (ImportError, ValueError) as error:
                    raise StoreError(f"{self.root} cannot be opened: {error}") from None
                self._process = os.getpid()
        return self._filesystem


class _RemoteFile(OpenFile):
    def __init__(self, files: RemoteFiles, path: str) -> None:
        self._files, self._path = files, path
        self.size = self.identity = int(files.ask("size", path) or 0)

    @override
    def check(self, offset: int, size: int) -> None:
        if offset < 0 or size < 0 or offset + size > self.size:
            raise truncated(self._path, offset, self.size)

    @override
    def array(self, dtype: npt.DTypeLike, count: int, offset: int) -> Array:
        dtype = np.dtype(dtype)
        self.check(offset, count * dtype.itemsize)
        content = self._files.ask("cat_file", self._path, start=offset, end=offset + count * dtype.itemsize)
        if len(content) != count * dtype.itemsize:
            raise OSError(
                f"{self._path} cannot be read: got {len(content)} bytes, expected {count * dtype.itemsize}: its "
                "server does not give parts of files; copy the store to this machine, or use another server"
            )
        return np.frombuffer(content, dtype)

    def prefetch(self, offset: int, size: int) -> None:
        """Do nothing: the kernel does not know this file."""

    @override
    def read_into(self, buffer: Array, offset: int) -> None:
        buffer.reshape(-1)[:] = self.array(buffer.dtype, buffer.size, offset)
