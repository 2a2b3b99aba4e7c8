"""The files of a store on this machine: links and pipes are refused, and so are sizes that a file does not have."""

from __future__ import annotations

import mmap
import os
import stat
import weakref
from collections.abc import Callable
from threading import Lock

import numpy as np
import numpy.typing as npt
from typing_extensions import override

from featurestore.format.files import FEW, PAGE, Array, Files, OpenFile, check_size, most_files, truncated
from featurestore.shared.errors import StoreError

PREFETCH_PIECE = 1 << 20
"""Size of a request for read-ahead: the kernel ignores the rest of a larger one."""
HOLES = 64
"""How many times larger than its data on the disk a file, or a shard in one, may be."""


class LocalFiles(Files):
    """Files of this machine, mapped into memory: regular files below the root, to which no link leads."""

    def __init__(self, root: str) -> None:
        super().__init__(root)
        self._plain_folders: set[str] = set()

    @override
    def read(self, path: str, size: int | None = None) -> bytes:
        with os.fdopen(self._descriptor(path), "rb") as file:
            found, place = os.fstat(file.fileno()).st_size, self.place(path)
            check_size(place, found, size)
            _check_holes(place, file.fileno(), 0, found)
            return file.read()

    @override
    def exists(self, path: str) -> bool:
        try:
            os.stat(self.place(path))
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    @override
    def children(self, path: str) -> list[str]:
        try:
            self._refuse_links_above(path)
            return sorted(os.listdir(self.place(path)))
        except (FileNotFoundError, NotADirectoryError):
            return []

    @override
    def folders(self, path: str) -> list[str]:
        return [name for name in self.children(path) if not os.path.isfile(self.place(f"{path}/{name}"))]

    def _open_file(self, path: str) -> OpenFile:
        file = _MappedFile(self.place(path), self._descriptor(path))
        if path:  # an HDF5 file has room for shards that are not written yet
            file.check(0, file.size)
        return file

    def _descriptor(self, path: str) -> int:
        """Return a descriptor of a regular file of the store.

        Raises:
            StoreError: if it is a link, or below one, or a pipe, a device or a folder.
        """
        folder, _, name = path.rpartition("/")
        self._refuse_links_above(folder)
        if name:  # the root itself may be a link
            self._refuse_link(path)
        if not stat.S_ISREG(os.stat(self.place(path)).st_mode):  # opening a pipe would wait for its other end
            raise StoreError(f"{self.place(path)} is not a regular file, and a store holds no others: do not trust it")
        return os.open(self.place(path), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)

    def _refuse_links_above(self, path: str) -> None:
        """Refuse a folder that is a link, or below one."""
        if path and path not in self._plain_folders:
            self._refuse_links_above(path.rpartition("/")[0])
            self._refuse_link(path)
            self._plain_folders.add(path)

    def _refuse_link(self, path: str) -> None:
        if stat.S_ISLNK(os.lstat(self.place(path)).st_mode):
            raise StoreError(f"{self.place(path)} is a symbolic link, which is not followed: a store holds none")


class _MappedFile(OpenFile):
    """A file that is mapped for views, and read into buffers with pread, which is faster if it is not cached yet.

    It stays the file that was opened, even if another takes its place.
    """

    def __init__(self, path: str, descriptor: int) -> None:
        self._path, self._file, self._file_direct = path, descriptor, -1
        weakref.finalize(self, _close, descriptor)
        found = os.fstat(descriptor)
        self.size, self.identity = found.st_size, (found.st_size, found.st_mtime_ns)
        self._map: mmap.mmap | None = None
        self._lock = Lock()

    @override
    def array(self, dtype: npt.DTypeLike, count: int, offset: int) -> Array:
        if self._map is None and not self._make_map():
            self.check(offset, count * np.dtype(dtype).itemsize)
            values = np.empty(count, dtype)
            self.read_into(values, offset)
            values.flags.writeable = False
            return values
        try:
            return np.frombuffer(self._map, dtype, count, offset)  # type: ignore[arg-type]
        except (ValueError, OverflowError):  # the latter if a number is larger than any file
            raise truncated(self._path, offset, self.size) from None

    @override
    def read_into(self, buffer: Array, offset: int) -> None:
        got, size = os.preadv(self._file, [buffer.data], offset), buffer.nbytes
        while got < size:  # a single read ends at 2 GiB
            rest = buffer.reshape(-1).view(np.uint8)[got:]
            more = os.preadv(self._file, [rest.data], offset + got)
            if more == 0:
                raise truncated(self._path, offset, self.size)
            got += more

    @override
    def read_direct(self, room: Array, offset: int, size: int) -> Array:
        if self._file_direct == -1:
            with self._lock:
                if self._file_direct == -1:
                    self._file_direct = _open_direct(self._file)
                    weakref.finalize(self, _close, self._file_direct)
        if self._file_direct < 0:
            return super().read_direct(room, offset, size)
        begin, got = offset % PAGE, 0
        end = begin + size
        while got < end:  # a single read ends at 2 GiB
            more = os.preadv(self._file_direct, [room[got : -(-end // PAGE) * PAGE].data], offset - begin + got)
            if more == 0 or (more % PAGE and got + more < end):
                raise truncated(self._path, offset, self.size)
            got += more
        return room[begin:end]

    @override
    def prefetch(self, offset: int, size: int) -> None:
        if self._in_memory(offset + size - 1):
            return
        for begin in range(offset, offset + size, PREFETCH_PIECE):
            length = min(PREFETCH_PIECE, offset + size - begin)
            os.posix_fadvise(self._file, begin, length, os.POSIX_FADV_WILLNEED)

    @override
    def check(self, offset: int, size: int) -> None:
        if offset < 0 or size < 0 or offset + size > self.size:
            raise truncated(self._path, offset, self.size)
        _check_holes(self._path, self._file, offset, size)

    def _in_memory(self, offset: int) -> bool:
        """Return whether a byte is in memory: asking for pages that are there costs as much as reading them."""
        try:
            return os.preadv(self._file, [bytearray(1)], offset, os.RWF_NOWAIT) == 1
        except OSError:  # reading would wait, or this file system cannot tell
            return False

    def _make_map(self) -> bool:
        """Map the file, unless too many are mapped: a map keeps its file open as long as a view of it exists."""
        if len(MAPS) >= most_files() or self.size == 0:
            return False
        self._map = mmap.mmap(self._file, 0, prot=mmap.PROT_READ)
        MAPS.add(self._map)
        return True


def _close(descriptor: int, close: Callable[[int], None] = os.close) -> None:
    """Close a file, even at the end of a process, when module globals are already gone."""
    if descriptor >= 0:
        close(descriptor)


def _check_holes(place: str, descriptor: int, offset: int, size: int) -> None:
    """Refuse bytes of a file that consist mostly of holes: reading them would fill memory with zeros."""
    if size <= FEW:
        return
    stored, end, last = 0, offset, offset + size
    while stored * HOLES < size:
        try:
            begin = os.lseek(descriptor, end, os.SEEK_DATA)  # if the file system cannot tell, all is data
            end = min(os.lseek(descriptor, begin, os.SEEK_HOLE), last)
        except OSError:  # there is no more data
            begin = last
        if begin >= last:
            raise StoreError(f"{place} claims {size} bytes, but holds only {stored} of them: do not trust it")
        stored += end - begin


def _open_direct(descriptor: int) -> int:
    """Return a descriptor of the same file that reads past the page cache; -2 where the file system cannot."""
    try:
        return os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECT)
    except OSError:
        return -2


MAPS: weakref.WeakSet[mmap.mmap] = weakref.WeakSet()
"""The maps of this process that are still in use."""
