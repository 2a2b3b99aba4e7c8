"""The files of a store, on this machine or behind a URL, read by ranges of bytes."""

from __future__ import annotations

import resource
from abc import ABC, abstractmethod
from threading import Lock
from typing import Any, ClassVar

import numpy.typing as npt

from featurestore.format.documents import MOST_SMALL
from featurestore.shared.errors import StoreError

Array = npt.NDArray[Any]
PAGE = 4096
"""Reads past the page cache are aligned to it."""
FEW = 1 << 24
"""Up to so many bytes may be one large hole."""


class OpenFile(ABC):
    """One file of a store, of which ranges of bytes are read.

    Attributes:
        size: its bytes.
        identity: differs if another file takes its place.
    """

    size: int
    identity: object

    @abstractmethod
    def check(self, offset: int, size: int) -> None:
        """Check that the file has ``size`` bytes from ``offset`` on, before memory for them is allocated.

        Raises:
            StoreError: if it is shorter, or if they are mostly a hole, which would fill memory with zeros.
        """

    @abstractmethod
    def array(self, dtype: npt.DTypeLike, count: int, offset: int) -> Array:
        """Return ``count`` elements from the byte ``offset`` on, read-only, as a view if possible."""

    @abstractmethod
    def read_into(self, buffer: Array, offset: int) -> None:
        """Fill a contiguous ``buffer`` with the bytes from ``offset`` on."""

    def read_direct(self, room: Array, offset: int, size: int) -> Array:
        """Read ``size`` bytes from ``offset`` on into ``room``, past the page cache if possible, and return them.

        Args:
            room: memory that begins on a page, with at least 2 * `PAGE` bytes more than ``size``.
            offset: of the first byte in the file.
            size: how many.
        """
        self.read_into(room[:size], offset)
        return room[:size]

    @abstractmethod
    def prefetch(self, offset: int, size: int) -> None:
        """Tell the kernel that a range will be read soon."""


class Files(ABC):
    """The files of a store by their paths relative to it; each process keeps the ones that it has opened."""

    remote: ClassVar[bool] = False
    """Whether they are behind a URL."""

    def __init__(self, root: str) -> None:
        self.root = root
        self._identity: object = None
        self._open: dict[str, OpenFile] = {}
        self._lock = Lock()
        self._most = most_files()

    def __getstate__(self) -> dict[str, Any]:
        """Return what other processes get: no open files, but how to recognise the file of an HDF5 store."""
        return {"root": self.root, "identity": self._open[""].identity if "" in self._open else None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["root"])  # type: ignore[misc]
        self._identity = state["identity"]

    def place(self, path: str) -> str:
        """Return the whole path of a file, for messages and for opening it."""
        return f"{self.root}/{path}" if path else self.root

    def open(self, path: str) -> OpenFile:
        """Return an open file.

        Raises:
            StoreError: if it is missing.
        """
        found = self._open.get(path)
        if found is None:
            try:
                found = self._open_file(path)
            except FileNotFoundError:
                raise StoreError(f"{self.place(path)} is missing; run ser-store verify") from None
            if not path and self._identity not in (None, found.identity):
                raise StoreError(f"{self.root} has been replaced since it was opened: open it again")
            with self._lock:
                while len(self._open) >= self._most:
                    self._open.pop(next(iter(self._open)))
                self._open[path] = found
        return found

    def has_open(self, path: str) -> bool:
        """Return whether a file is open, and so can be read even if it is deleted or replaced."""
        return path in self._open

    @abstractmethod
    def read(self, path: str, size: int | None = None) -> bytes:
        """Return the content of a small file.

        Args:
            path: of the file.
            size: that it must have, in bytes; when absent at most that of a document.

        Raises:
            FileNotFoundError: if it is missing.
            StoreError: if it has another size, or is not a regular file of the store.
        """

    @abstractmethod
    def exists(self, path: str) -> bool:
        """Return whether there is a file."""

    @abstractmethod
    def children(self, path: str) -> list[str]:
        """Return the names of everything in a folder, sorted; none if there is no folder."""

    @abstractmethod
    def folders(self, path: str) -> list[str]:
        """Return the names of everything in a folder that is not a file, sorted; dangling links are not files."""

    @abstractmethod
    def _open_file(self, path: str) -> OpenFile: ...


def check_size(place: str, found: int, expected: int | None) -> None:
    """Check the size of a small file: the expected one, or at most `MOST_SMALL` where that is None.

    Raises:
        StoreError: if the size is wrong.
    """
    if expected is None and found > MOST_SMALL:
        raise StoreError(f"{place} has {found} bytes, expected at most {MOST_SMALL}: it is damaged")
    if expected is not None and found != expected:
        raise StoreError(f"{place} holds {found} bytes, expected {expected}: it is damaged")


def most_files() -> int:
    """Return how many files may be open, and how many mapped: half of the descriptors are left to the program."""
    return max(16, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4)


def truncated(path: str, offset: int, size: int) -> StoreError:
    """Return the error about a file that ends before what should be in it."""
    return StoreError(f"{path} has {size} bytes, expected frames at byte {offset}: it is damaged; run ser-store verify")
