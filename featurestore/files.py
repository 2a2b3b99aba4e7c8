"""Where the bytes of a store are: a folder of this machine, or any fsspec URL such as s3://bucket/name.zarr."""

from __future__ import annotations

import mmap
import os
import resource
import weakref
from abc import ABC, abstractmethod
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from featurestore.errors import StoreError

Array = npt.NDArray[Any]
PAGE = 4096
"""What reads past the page cache are aligned to."""
PREFETCH_PIECE = 1 << 20
"""The kernel caps a single request for read-ahead; pieces of this size are all honoured."""


class Ranges(ABC):
    """One file, of which byte ranges are read."""

    size: int

    @abstractmethod
    def array(self, dtype: npt.DTypeLike, count: int, offset: int) -> Array:
        """Return ``count`` elements from the byte ``offset`` on, read-only, as a view where it can be."""

    @abstractmethod
    def read_into(self, buffer: Array, offset: int) -> None:
        """Fill a contiguous ``buffer`` with the bytes from ``offset`` on."""

    def read_direct(self, room: Array, offset: int, size: int) -> Array:
        """Return ``size`` bytes from ``offset`` on in ``room``, past the page cache where that can be done.

        Args:
            room: bytes that begin on a page, `PAGE` * 2 more than ``size`` at least.
            offset: of the first byte in the file.
            size: how many.
        """
        self.read_into(room[:size], offset)
        return room[:size]

    def prefetch(self, offset: int, size: int) -> None:  # noqa: B027, nothing to do where there is no kernel to tell
        """Tell the kernel that a range will be wanted soon."""


class Files(ABC):
    """The files of a store by their paths relative to it; open ones are kept, per process."""

    def __init__(self, root: str) -> None:
        self.root = root
        self._open: dict[str, Ranges] = {}
        self._lock = Lock()
        self._most = _most_files()

    def __getstate__(self) -> dict[str, Any]:
        return {"root": self.root}  # open files do not travel to other processes

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["root"])  # type: ignore[misc]

    def place(self, path: str) -> str:
        """Return the whole path of a file, for messages and for opening it."""
        return f"{self.root}/{path}" if path else self.root

    def ranges(self, path: str) -> Ranges:
        """Return an open file.

        Raises:
            StoreError: if it is absent.
        """
        found = self._open.get(path)
        if found is None:
            try:
                found = self._open_ranges(path)
            except (FileNotFoundError, ValueError) as error:
                raise StoreError(f"{self.place(path)} cannot be read: {error}; run ser-store verify") from None
            with self._lock:
                while len(self._open) >= self._most:
                    self._open.pop(next(iter(self._open)))
                self._open[path] = found
        return found

    @abstractmethod
    def read(self, path: str) -> bytes:
        """Return the content of a small file.

        Raises:
            FileNotFoundError: if it is absent.
        """

    @abstractmethod
    def exists(self, path: str) -> bool:
        """Return whether there is a file."""

    @abstractmethod
    def children(self, path: str) -> list[str]:
        """Return the names of what is in a folder, sorted; none if there is no folder."""

    @abstractmethod
    def folders(self, path: str) -> list[str]:
        """Return the names of what is in a folder and is no file, sorted; also of links that lead nowhere."""

    @abstractmethod
    def _open_ranges(self, path: str) -> Ranges: ...


class LocalFiles(Files):
    """Files of this machine, mapped."""

    def read(self, path: str) -> bytes:  # noqa: D102
        return Path(self.place(path)).read_bytes()

    def exists(self, path: str) -> bool:  # noqa: D102
        try:
            os.stat(self.place(path))
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def children(self, path: str) -> list[str]:  # noqa: D102
        try:
            return sorted(os.listdir(self.place(path)))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def folders(self, path: str) -> list[str]:  # noqa: D102
        return [name for name in self.children(path) if not os.path.isfile(self.place(f"{path}/{name}"))]

    def _open_ranges(self, path: str) -> Ranges:
        return _MappedFile(self.place(path))


class _MappedFile(Ranges):
    """A file that is mapped for views, and read with pread into buffers: that is faster when the disk is cold."""

    def __init__(self, path: str) -> None:
        self._path, self._file, self._file_direct = path, -1, -1
        self.size = os.stat(path).st_size
        self._map: mmap.mmap | None = None
        self._lock = Lock()

    def __del__(self) -> None:
        for file in (self._file, self._file_direct):
            if file >= 0:
                os.close(file)

    @property
    def _descriptor(self) -> int:
        if self._file < 0:
            with self._lock:
                if self._file < 0:
                    self._file = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        return self._file

    def array(self, dtype: npt.DTypeLike, count: int, offset: int) -> Array:
        if self._map is None and not self._make_map():
            values = np.empty(count, dtype)
            self.read_into(values, offset)
            values.flags.writeable = False
            return values
        try:
            return np.frombuffer(self._map, dtype, count, offset)  # type: ignore[arg-type]
        except ValueError:
            raise _truncated(self._path, offset, self.size) from None

    def read_into(self, buffer: Array, offset: int) -> None:
        got, size = os.preadv(self._descriptor, [buffer.data], offset), buffer.nbytes
        while got < size:  # a single read ends at 2 GiB
            rest = buffer.reshape(-1).view(np.uint8)[got:]
            more = os.preadv(self._descriptor, [rest.data], offset + got)
            if more == 0:
                raise _truncated(self._path, offset, self.size)
            got += more

    def read_direct(self, room: Array, offset: int, size: int) -> Array:
        if self._file_direct == -1:
            with self._lock:
                if self._file_direct == -1:
                    self._file_direct = _open_direct(self._path)
        if self._file_direct < 0:
            return super().read_direct(room, offset, size)
        begin, got = offset % PAGE, 0
        end = begin + size
        while got < end:  # a single read ends at 2 GiB
            more = os.preadv(self._file_direct, [room[got : -(-end // PAGE) * PAGE].data], offset - begin + got)
            if more == 0 or (more % PAGE and got + more < end):
                raise _truncated(self._path, offset, self.size)
            got += more
        return room[begin:end]

    def prefetch(self, offset: int, size: int) -> None:
        if self._in_memory(offset + size - 1):
            return
        for begin in range(offset, offset + size, PREFETCH_PIECE):
            length = min(PREFETCH_PIECE, offset + size - begin)
            os.posix_fadvise(self._descriptor, begin, length, os.POSIX_FADV_WILLNEED)

    def _in_memory(self, offset: int) -> bool:
        """Return whether a byte is in memory: asking for pages that are there costs as much as reading them."""
        try:
            return os.preadv(self._descriptor, [bytearray(1)], offset, os.RWF_NOWAIT) == 1
        except OSError:  # it would have to wait, or this file system cannot tell
            return False

    def _make_map(self) -> bool:
        """Map the file, unless too many are mapped: a map keeps its file open for as long as a view of it is used."""
        if len(MAPS) >= _most_files() or self.size == 0:
            return False
        with open(self._path, "rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        MAPS.add(self._map)
        return True


def _open_direct(path: str) -> int:
    """Return a descriptor that reads past the page cache; -2 where the file system cannot."""
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECT)
    except OSError:
        return -2


MAPS: weakref.WeakSet[mmap.mmap] = weakref.WeakSet()
"""The maps of this process that are still in use."""


def _most_files() -> int:
    """Return how many files may be open, and how many mapped: the program needs half of the descriptors itself."""
    return max(16, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4)


class RemoteFiles(Files):
    """Files behind an fsspec URL, read by ranges."""

    def read(self, path: str) -> bytes:  # noqa: D102
        return bytes(self.filesystem.cat_file(self.place(path)))

    def exists(self, path: str) -> bool:  # noqa: D102
        filesystem = self.filesystem
        try:
            return bool(filesystem.exists(self.place(path)))
        except Exception as error:  # no credentials, no network …: every file system has errors of its own
            raise StoreError(f"{self.root} cannot be reached: {error}") from None

    def children(self, path: str) -> list[str]:  # noqa: D102
        return sorted(self._list(path))

    def folders(self, path: str) -> list[str]:  # noqa: D102
        return sorted(name for name, kind in self._list(path).items() if kind != "file")

    def _list(self, path: str) -> dict[str, str]:
        """Return what is in a folder: names, and what each is."""
        try:
            found = {entry["name"].rstrip("/"): entry["type"] for entry in self.filesystem.ls(self.place(path), True)}
        except FileNotFoundError:
            return {}
        folder = self.filesystem._strip_protocol(self.place(path))  # an empty object may stand for it
        return {name.rpartition("/")[2]: kind for name, kind in found.items() if name != folder}

    def _open_ranges(self, path: str) -> Ranges:
        return _RemoteFile(self, self.place(path))

    @property
    def filesystem(self) -> Any:
        """The fsspec file system, one per process: its event loop does not survive a fork."""
        with self._lock:  # no thread may see a half-made one, or that of the parent process
            if self.__dict__.get("_process") != os.getpid():
                import fsspec

                try:
                    self._filesystem = fsspec.core.url_to_fs(self.root, skip_instance_cache=True)[0]
                except (ImportError, ValueError) as error:
                    raise StoreError(f"{self.root} cannot be opened: {error}") from None
                self._process = os.getpid()
        return self._filesystem


class _RemoteFile(Ranges):
    def __init__(self, files: RemoteFiles, path: str) -> None:
        self._files, self._path = files, path
        self.size = int(files.filesystem.size(path))

    def array(self, dtype: npt.DTypeLike, count: int, offset: int) -> Array:
        dtype = np.dtype(dtype)
        content = self._files.filesystem.cat_file(self._path, start=offset, end=offset + count * dtype.itemsize)
        if len(content) < count * dtype.itemsize:
            raise _truncated(self._path, offset, self.size)
        return np.frombuffer(content, dtype)

    def read_into(self, buffer: Array, offset: int) -> None:
        buffer.reshape(-1)[:] = self.array(buffer.dtype, buffer.size, offset)


def _truncated(path: str, offset: int, size: int) -> StoreError:
    return StoreError(f"{path} has {size} bytes, expected frames at byte {offset}: it is damaged; run ser-store verify")


def open_files(path: str | Path) -> Files:
    """Return the files below a path or URL.

    >>> open_files("stores/emotale.zarr").place("zarr.json"), open_files("memory://a.zarr/").place("zarr.json")
    ('stores/emotale.zarr/zarr.json', 'memory://a.zarr/zarr.json')
    """
    root = str(path)
    if "://" in root and not root.startswith("file://"):
        return RemoteFiles(root.rstrip("/"))
    return LocalFiles(str(Path(root.removeprefix("file://"))))
