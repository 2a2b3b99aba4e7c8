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
from measure import aligned
from states import FEATURE, LAYER, ROW_BYTES, Data

import featurestore

Read = Callable[[Sequence[int], int | None], object]
"""Reads utterances, by their rows: all layers, or one."""
BATCH_BYTES = 100e6
BLOCK = 4096


class Way(ABC):
    """A way to store and read the data.

    Attributes:
        group: ``raw``, ``ours`` or ``others``.
        needs: modules that may not be installed.
        share: of the data that is stored, where storing it is slow.
        one_core: whether the warm measurements keep to one core.
    """

    group: ClassVar[str] = "others"
    needs: ClassVar[tuple[str, ...]] = ()
    share: ClassVar[float] = 1.0
    one_core: bool = True

    def rows(self, data: Data) -> list[int]:
        """Return the utterances that are stored, shuffled."""
        return data.order[: max(8, round(self.share * len(data.order)))]

    def write(self, data: Data, folder: Path, rows: Sequence[int]) -> None:  # noqa: B027, most read what is there
        """Store the utterances in a new folder."""

    def places(self, data: Data, folder: Path) -> list[Path]:
        """Return the files, and folders of files, that are read."""
        return [folder]

    @abstractmethod
    def open(self, data: Data, folder: Path) -> Read:
        """Return what reads."""


class Raw(Way):
    """The raw file, by np.memmap or pread, into one page-aligned buffer."""

    group = "raw"

    def __init__(self, how: Literal["memmap", "pread"]) -> None:
        self._how = how

    def places(self, data: Data, folder: Path) -> list[Path]:
        return [data.raw]

    def open(self, data: Data, folder: Path) -> Read:
        buffer = aligned(data.largest)
        if self._how == "memmap":
            mapped = np.memmap(data.raw, np.uint8, "r")

            def fetch(begin: int, size: int) -> None:
                np.copyto(buffer[:size], mapped[begin : begin + size])
        else:
            descriptor = os.open(data.raw, os.O_RDONLY)

            def fetch(begin: int, size: int) -> None:
                if os.preadv(descriptor, [buffer[:size].data], begin) != size:
                    raise OSError(f"{data.raw} is shorter than expected")

        return lambda rows, layer: deque((fetch(*data.place(row, layer)) for row in rows), 0)


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
        how: through ``Store.batches``, through ``Block.read_into`` one buffer, or as views that copy nothing.
        one_core: see `Way`.
        store: the name of the store's file or folder.
        shuffle: of the batches.
    """

    group = "ours"

    def __init__(
        self,
        form: str,
        how: Literal["batches", "read_into", "views"],
        one_core: bool = True,
        store: str = "store",
        shuffle: Literal["all", "shards"] = "all",
    ) -> None:
        self._form, self._how, self.one_core, self._store, self._shuffle = form, how, one_core, store, shuffle

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
            deque(store.batches(names, [FEATURE], copy=True, collate=None, **how), 0)

        return batches


def _into_buffer(part: featurestore.feature.FeatureStore, data: Data) -> Read:
    buffer = aligned(data.largest + 16 * ROW_BYTES).view(np.float16)

    def read(rows: Sequence[int], layer: int | None) -> None:
        for row in rows:
            block = part.block(data.names[row], layer)
            shape = block.shape
            block.read_into(buffer[: prod(shape)].reshape(shape))

    return read


def batch_utterances(data: Data, layer: int | None) -> int:
    """Return how many utterances a batch has: 32, or what 100 MB hold."""
    return max(1, min(32, round(BATCH_BYTES * len(data.frames) / data.bytes_of(range(len(data.frames)), layer))))


MEMMAP = "np.memmap, one raw file"
PREAD = "pread, one raw file"
DIRECT = {None: "O_DIRECT, 4 in flight", LAYER: "O_DIRECT, 8 in flight"}
BATCHES, BATCHES_HDF5 = "ours, batches, Zarr", "ours, batches, HDF5"
BATCHES_CORES = "ours, batches, Zarr, all cores"
INTO, INTO_HDF5 = "ours, read_into, Zarr", "ours, read_into, HDF5"
VIEWS, VIEWS_HDF5 = "ours, views, Zarr", "ours, views, HDF5"
