"""Ways to read utterances: one raw file, and our store; `others` has those of other libraries."""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from math import prod
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
from measure import aligned
from states import FEATURE, LAYER, ROW_BYTES, Data

import featurestore

Read = Callable[[Sequence[int], int | None], object]
"""Reads utterances, by their rows: all layers, or one."""
BATCH_BYTES = 100e6
BLOCK, RING = 4096, 5
Octets = npt.NDArray[np.uint8]


class Way(ABC):
    """A way to store and read the data.

    Attributes:
        group: ``raw``, ``ours`` or ``others``.
        needs: modules that may not be installed.
        most: utterances that are stored, where it is slow; None for all.
        one_core: whether the warm measurements keep to one core.
        once: whether a warm pass reads each utterance just once, however soon that is done.
    """

    group: ClassVar[str] = "others"
    needs: ClassVar[tuple[str, ...]] = ()
    most: int | None = None
    one_core: bool = True
    once: bool = False

    def rows(self, data: Data) -> list[int]:
        """Return the utterances that are stored, shuffled."""
        return data.order[: self.most]

    def write(self, data: Data, folder: Path, rows: Sequence[int]) -> None:
        """Store the utterances in a new folder."""
        return  # most ways read what is there already

    def places(self, data: Data, folder: Path) -> list[Path]:
        """Return the files, and folders of files, that are read."""
        return [folder]

    @abstractmethod
    def open(self, data: Data, folder: Path) -> Read:
        """Return what reads."""


class Raw(Way):
    """The raw file, by np.memmap or pread, into page-aligned memory that is used again.

    Args:
        how: it is read.
        ring: into as much memory as some batches take, one utterance behind the other, not one buffer for all: what is
            written there does not stay in the processor's cache.
    """

    group = "raw"

    def __init__(self, how: Literal["memmap", "pread"], ring: bool = False) -> None:
        self._how, self._ring = how, ring

    def places(self, data: Data, folder: Path) -> list[Path]:
        return [data.raw]

    def open(self, data: Data, folder: Path) -> Read:
        fetch = (_mapped if self._how == "memmap" else _preads)(data.raw)
        buffer = aligned(max(data.largest, round(RING * BATCH_BYTES) if self._ring else 0))

        def read(rows: Sequence[int], layer: int | None) -> None:
            end, most = 0, RING * batch_bytes(data, layer) if self._ring else 0
            for row in rows:
                begin, size = data.place(row, layer)
                end = 0 if end + size > most else end
                fetch(buffer[end : end + size], begin)
                end += size

        return read


def _mapped(path: Path) -> Callable[[Octets, int], None]:
    mapped = np.memmap(path, np.uint8, "r")
    return lambda buffer, begin: np.copyto(buffer, mapped[begin : begin + buffer.size])


def _preads(path: Path) -> Callable[[Octets, int], None]:
    descriptor = os.open(path, os.O_RDONLY)

    def fetch(buffer: Octets, begin: int) -> None:
        if os.preadv(descriptor, [buffer.data], begin) != buffer.size:
            raise OSError(f"{path} is shorter than expected")

    return fetch


class Direct(Way):
    """The raw file past the page cache, several requests in flight, each of one utterance or one layer of it."""

    group = "raw"

    def __init__(self, in_flight: int) -> None:
        self._in_flight = in_flight

    def places(self, data: Data, folder: Path) -> list[Path]:
        return [data.raw]

    def open(self, data: Data, folder: Path) -> Read:
        descriptor = os.open(data.raw, os.O_RDONLY | os.O_DIRECT)
        buffers, local = [aligned(data.largest + 2 * BLOCK) for _ in range(self._in_flight)], threading.local()

        def begin_thread() -> None:
            local.buffer = buffers.pop()

        def fetch(place: tuple[int, int]) -> None:
            before = place[0] % BLOCK
            size = -(-(before + place[1]) // BLOCK) * BLOCK
            if os.preadv(descriptor, [local.buffer[:size].data], place[0] - before) < before + place[1]:
                raise OSError(f"{data.raw} is shorter than expected")

        pool = ThreadPoolExecutor(self._in_flight, initializer=begin_thread)
        return lambda rows, layer: deque(pool.map(fetch, [data.place(row, layer) for row in rows]), 0)


class Ours(Way):
    """Our store.

    Args:
        form: its suffix.
        how: through ``Store.batches`` (``direct``: past the page cache), through ``Block.read_into`` one buffer, or as
            views that copy nothing.
        one_core: see `Way`.
        once: see `Way`.
        store: the name of the store's file or folder.
        shuffle: of the batches.
    """

    group = "ours"

    def __init__(
        self,
        form: str,
        how: Literal["batches", "direct", "read_into", "views"],
        *,
        one_core: bool = True,
        once: bool = False,
        store: str = "store",
        shuffle: Literal["all", "shards"] = "all",
    ) -> None:
        self._form, self._how, self.one_core, self.once = form, how, one_core, once
        self._store, self._shuffle = store, shuffle

    def places(self, data: Data, folder: Path) -> list[Path]:
        return [data.folder / f"{self._store}{self._form}"]

    def open(self, data: Data, folder: Path) -> Read:
        store = featurestore.open(self.places(data, folder)[0])
        part = store.feature(FEATURE)
        part.frames(data.names[0])  # the index is in memory; the shards are opened by what is measured

        def views(rows: Sequence[int], layer: int | None) -> None:
            for row in rows:
                part.read(data.names[row], layer)

        if self._how == "views":
            return views
        if self._how == "read_into":
            return _into_buffer(part, data)

        def batches(rows: Sequence[int], layer: int | None) -> None:
            names, layers = [data.names[row] for row in rows], {} if layer is None else {FEATURE: layer}
            size = batch_utterances(data, layer)
            how = {"layers": layers, "utterances": size, "seed": 0, "shuffle": self._shuffle}
            deque(store.batches(names, [FEATURE], copy=True, cached=self._how != "direct", collate=None, **how), 0)

        return batches


def _into_buffer(part: featurestore.access.feature.FeatureStore, data: Data) -> Read:
    buffer = aligned(data.largest + 16 * ROW_BYTES).view(np.float16)

    def read(rows: Sequence[int], layer: int | None) -> None:
        for row in rows:
            block = part.block(data.names[row], layer)
            shape = block.shape
            block.read_into(buffer[: prod(shape)].reshape(shape))

    return read


def batch_utterances(data: Data, layer: int | None) -> int:
    """Return how many utterances a batch has: 32, or what 100 MB hold."""
    return max(1, min(32, round(BATCH_BYTES / _mean_bytes(data, layer))))


def batch_bytes(data: Data, layer: int | None) -> float:
    """Return the bytes of a batch, on average."""
    return batch_utterances(data, layer) * _mean_bytes(data, layer)


def _mean_bytes(data: Data, layer: int | None) -> float:
    return data.bytes_of(range(len(data.frames)), layer) / len(data.frames)


MEMMAP, MEMMAP_RING = "np.memmap, one raw file", "np.memmap, into memory for five batches"
PREAD = "pread, one raw file"
DIRECT = {None: "O_DIRECT, 4 in flight", LAYER: "O_DIRECT, 8 in flight"}
BATCHES, BATCHES_HDF5 = "ours, batches, Zarr", "ours, batches, HDF5"
BATCHES_DIRECT = "ours, batches past the cache, Zarr"
BATCHES_CORES, BATCHES_ONCE = "ours, batches, Zarr, all cores", "ours, batches, Zarr, one epoch"
INTO, INTO_HDF5 = "ours, read_into, Zarr", "ours, read_into, HDF5"
VIEWS, VIEWS_HDF5 = "ours, views, Zarr", "ours, views, HDF5"
SMALL_STORE = "small_shards"
"""The store on which the shuffles are compared."""
SHUFFLES: dict[str, Way] = {
    "shuffle=all": Ours(".zarr", "batches", one_core=False, store=SMALL_STORE),
    "shuffle=shards": Ours(".zarr", "batches", one_core=False, store=SMALL_STORE, shuffle="shards"),
}
RAW_AND_OURS: dict[str, Way] = {
    MEMMAP: Raw("memmap"),
    MEMMAP_RING: Raw("memmap", ring=True),
    PREAD: Raw("pread"),
    DIRECT[None]: Direct(4),
    DIRECT[LAYER]: Direct(8),
    BATCHES: Ours(".zarr", "batches"),
    BATCHES_HDF5: Ours(".h5", "batches"),
    BATCHES_DIRECT: Ours(".zarr", "direct"),
    BATCHES_CORES: Ours(".zarr", "batches", one_core=False),
    BATCHES_ONCE: Ours(".zarr", "batches", once=True),
    INTO: Ours(".zarr", "read_into"),
    INTO_HDF5: Ours(".h5", "read_into"),
    VIEWS: Ours(".zarr", "views"),
    VIEWS_HDF5: Ours(".h5", "views"),
    **SHUFFLES,
}
