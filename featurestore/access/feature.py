"""One feature of a store, to read from: the frames of each utterance, and their times."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np

from featurestore.access.layers import Layers, layer_range
from featurestore.format.backend import Backend
from featurestore.format.codec import Floats, Frames
from featurestore.format.files import Array
from featurestore.format.index import Index
from featurestore.format.layout import AFFINE, POOLED
from featurestore.format.plan import Seconds
from featurestore.format.planned import PlannedFeature
from featurestore.format.shard import ALL, BlockReader
from featurestore.shared.errors import StoreError


class Block(NamedTuple):
    """Where the frames of one utterance are.

    Attributes:
        reader: of the shard.
        row: of the utterance in the table.
        first: frame in the shard.
        length: number of frames.
        run: the contiguous layers that are read.
        within: those of the run that are wanted.
    """

    reader: BlockReader
    row: int
    first: int
    length: int
    run: slice
    within: slice | Array

    @property
    def place(self) -> tuple[int, tuple[int, int, int]]:
        """The byte of the file where the run begins, and its shape: (layers, frames with padding, width)."""
        return self.reader.block(self.first, self.length, self.run)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(layers, frames with padding, width)."""
        return self.place[1]

    def checksum(self) -> int:
        """Return the CRC-32C of the block as it lies on the disk."""
        return self.reader.checksum(self.first, self.length)

    def prefetch(self) -> None:
        """Tell the kernel that the block will be read soon."""
        self.reader.prefetch(self.first, self.length, self.run)

    def read_into(self, values: Array, offset: int | None = None) -> None:
        """Fill ``values``, which has the `shape` of the block; ``offset`` is its byte in the file, if known."""
        if self.reader.contiguous:
            self.reader.read_into(values, self.place[0] if offset is None else offset)
        else:
            values[:, : self.length] = self.reader.get(self.first, self.length, self.run)


class FeatureStore(PlannedFeature):
    """One feature of a store.

    Args:
        backend: of the store.
        name: of the feature.
        index: the utterances' rows by name, and the shard and slot of each row.
    """

    def __init__(self, backend: Backend, name: str, index: Index) -> None:
        super().__init__(backend, name, index)
        self._dtype, self._dim = self.spec.dtype, self.spec.dim
        self._readers: dict[tuple[str, int], BlockReader] = {}

    @property
    def remote(self) -> bool:
        """Whether the store is behind a URL."""
        return self.backend.files.remote

    def frames(self, name: str) -> int:
        """Return the number of frames of an utterance."""
        return int(self.lengths[self._index[name]])

    def times(self, name: str) -> Seconds:
        """Return the time of each frame of an utterance: the centre of its window, in seconds.

        Raises:
            StoreError: if the frames have no clock.
        """
        row = self._index[name]
        if not self.spec.hop:
            raise StoreError(
                f"{self.name} has no clock: its frames have an order, but no times; if they are tokens of a text, the "
                "feature words has the times of their words"
            )
        first = float(self._first_times[row])
        return first + self.spec.hop * np.arange(self.lengths[row], dtype=np.float64)

    def read(self, name: str, layers: Layers = None) -> Frames:
        """Return the stored frames of an utterance, as views of the file if possible.

        Args:
            name: of the utterance.
            layers: to read, by number or slice; all when absent.

        Raises:
            StoreError: if the utterance has none, with the reason; or if its shard is damaged.
            IndexError: if there is no such layer.
        """
        block = self.block(name, layers)
        return self.frames_of(block, block.reader.get(block.first, block.length, block.run))

    def block(self, name: str, layers: Layers = None) -> Block:
        """Return where the frames of an utterance are.

        Raises:
            StoreError: if it has none, with the reason.
        """
        row = self._row(name)
        run, within = (ALL, ALL) if layers is None else layer_range(layers, self.spec.layers)
        firsts, lengths = self._places  # item(), since with [] a whole read takes 11 to 14 % longer
        reader = self.reader("data", self._index.shard.item(row))
        return Block(reader, row, firsts.item(row), lengths.item(row), run, within)

    def _row(self, name: str) -> int:
        if name in self.failed:
            raise StoreError(f"{name} has no {self.name}: {self.failed[name]}")
        return self._index[name]

    def frames_of(self, block: Block, values: Array) -> Frames:
        """Return the frames of a block, given its values, with padding or without."""
        if block.within is not ALL:
            values = values[block.within]
        if values.shape[1] != block.length:
            values = values[:, : block.length]
        if not self._affine:
            return Frames(values, self._dtype, self._dim)
        scale, offset = (self._slot(array, block.row, block.run)[block.within] for array in AFFINE)
        return Frames(values, self._dtype, self._dim, scale, offset)

    def pooled(self, names: Sequence[str]) -> tuple[Floats, Floats]:
        """Return the mean and standard deviation over time, each (utterances, layers, dim)."""
        rows = [self._row(name) for name in names]
        mean, sd = (np.stack([self._slot(array, row, ALL) for row in rows]) for array in POOLED)
        return mean, sd

    def reader(self, array: str, shard: int) -> BlockReader:
        """Return the reader of one shard of an array."""
        found = self._readers.get((array, shard))
        if found is None:
            layout = self.layouts[array]
            starts, counts = self.shard_places(array, shard)
            found = self.backend.open_shard(self.name, array, shard, layout, starts, counts)
            self._readers[array, shard] = found
        return found

    def _slot(self, array: str, row: int, layers: slice) -> Floats:
        """Return what an array holds for an utterance, (layers, dim)."""
        return self.reader(array, self._index.shard.item(row)).get(self._slots.item(row), 1, layers)[:, 0]

    @cached_property
    def _affine(self) -> bool:
        return "scale" in self.layouts
