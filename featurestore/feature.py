"""One feature of a store: where the frames of each utterance are, and reading them."""

from __future__ import annotations

import array as compact
from collections.abc import Sequence
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from featurestore.codec import Floats, Frames
from featurestore.documents import Tree
from featurestore.errors import StoreError
from featurestore.files import Array
from featurestore.forms import Form, Record
from featurestore.layers import Layers, layer_range
from featurestore.layout import AFFINE, POOLED, array_layouts, plan_checksums
from featurestore.plan import CHUNK_FRAMES, Ints, Seconds, padded
from featurestore.shard import ALL, BlockReader

if TYPE_CHECKING:
    from featurestore.store import Index

MOST_FRAMES = 1 << 26
"""Frames that are believed of an utterance: a week."""
MOST_CHUNKS = 1 << 23
"""Chunks that are believed of a shard: its index then takes 128 MB."""


class Block(NamedTuple):
    """Where the frames of one utterance are.

    Attributes:
        reader: of the shard.
        row: of the utterance in the table.
        first: frame in the shard.
        length: number of frames.
        run: of layers, that is read.
        within: which layers of the run are wanted.
    """

    reader: BlockReader
    row: int
    first: int
    length: int
    run: slice
    within: slice | Array

    @property
    def place(self) -> tuple[int, tuple[int, int, int]]:
        """The byte of the file where it begins, and its shape: (layers, frames with the padding, width)."""
        return self.reader.block(self.first, self.length, self.run)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(layers, frames with the padding, width)."""
        return self.place[1]

    def checksum(self) -> int:
        """Return the CRC-32C of the block as it lies on the disk."""
        return self.reader.checksum(self.first, self.length)

    def prefetch(self) -> None:
        """Tell the kernel that the block will be read soon."""
        self.reader.prefetch(self.first, self.length, self.run)

    def read_into(self, values: Array, offset: int | None = None) -> None:
        """Fill ``values``, which has the `shape`; ``offset`` is the first part of its `place`, if it is known."""
        if self.reader.contiguous:
            self.reader.read_into(values, self.place[0] if offset is None else offset)
        else:
            values[:, : self.length] = self.reader.get(self.first, self.length, self.run)


class FeatureStore:
    """One feature of a store.

    Args:
        form: of the store.
        name: of the feature.
        index: the utterances' rows by name, and the shard and slot of each row.
    """

    def __init__(self, form: Form, name: str, index: Index) -> None:
        self.form, self.name, self._index = form, name, index
        self.spec = form.spec(name)
        self._dtype, self._dim = self.spec.dtype, self.spec.dim
        self._readers: dict[tuple[str, int], BlockReader] = {}

    @cached_property
    def manifest(self) -> Tree:
        """Checksums of the plan and of all shards that have been committed, with what failed in them."""
        return self.form.manifest(self.name) or {"plan": {}, "shards": {}}

    @cached_property
    def shards(self) -> int:
        """The number of shards."""
        return self._index.shards

    @cached_property
    def complete(self) -> bool:
        """Whether all of it is extracted."""
        return len(self.manifest["shards"]) == self.shards

    @cached_property
    def records(self) -> dict[int, Record]:
        """The checksums and failures of each shard that has been written, by number.

        Raises:
            StoreError: if one is of no shard of the store, or does not fit it.
        """
        records = {int(number): record for number, record in self.manifest["shards"].items()}
        if not self.complete:
            records |= self.form.records(self.name)
        utterances = np.bincount(self._index.shard)
        for number, record in records.items():
            if number >= self.shards or len(record["utterances"]) != 8 * utterances[number]:
                raise StoreError(f"{self.form.path}: the record of shard {number} of {self.name} is damaged")
            if not set(self.layouts) <= set(record["files"]):
                raise StoreError(f"{self.form.path}: the record of shard {number} of {self.name} lacks checksums")
        return records

    @property
    def size(self) -> int:
        """The bytes of all shards."""
        return sum(file["bytes"] for record in self.records.values() for file in record["files"].values())

    @cached_property
    def failed(self) -> dict[str, str]:
        """The utterances that have no frames, with the reason."""
        failed = {
            self._index.names[row]: "it has no frames"
            for row in np.flatnonzero(self.lengths[: len(self._index.shard)] == 0)
        }
        failed |= {name: why for record in self.records.values() for name, why in record["failed"].items()}
        if self.complete:
            return failed
        unwritten = np.flatnonzero(~np.isin(self._index.shard, list(self.records)))
        return {**failed, **dict.fromkeys((self._index.names[row] for row in unwritten), "not extracted yet")}

    @cached_property
    def flagged(self) -> dict[str, str]:
        """The utterances whose frames, or audio, are odd, with what is odd about them."""
        return {name: what for record in self.records.values() for name, what in record.get("flagged", {}).items()}

    @cached_property
    def planned(self) -> dict[str, Array]:
        """All of the plan as it was found, by the names that its parts have on the disk: it may not fit the frames."""
        return {
            "start": self._read_plan("start", np.int64),
            "frames": self._read_plan("frames", np.int64),
            "time": self._read_plan("time", np.float64),
        }

    @property
    def checksums(self) -> dict[str, int]:
        """The CRC-32C of each part of the plan as it is."""
        return plan_checksums(self.spec, self.planned)

    @cached_property
    def lengths(self) -> Ints:
        """The number of frames of each utterance, in the order of the table.

        Raises:
            StoreError: if the plan is damaged.
        """
        return self._checked_plan("frames")

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
                f"{self.name} has no clock: its frames have an order, but no times; where they are tokens of a text, "
                "the feature words has the times of their words"
            )
        first = float(self._first_times[row])
        return first + self.spec.hop * np.arange(self.lengths[row], dtype=np.float64)

    def read(self, name: str, layers: Layers = None) -> Frames:
        """Return the stored frames of an utterance, as views of the file where they can be.

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
        if name in self.failed:
            raise StoreError(f"{name} has no {self.name}: {self.failed[name]}")
        row = self._index[name]
        run, within = (ALL, ALL) if layers is None else layer_range(layers, self.spec.layers)
        return Block(self.reader("data", self._shards[row]), row, self._within[row], self._counts[row], run, within)

    def frames_of(self, block: Block, values: Array) -> Frames:
        """Return the frames of a block whose values have been read, with the padding or without."""
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
        rows = [self.block(name).row for name in names]
        mean, sd = (np.stack([self._slot(array, row, ALL) for row in rows]) for array in POOLED)
        return mean, sd

    def shard_of(self, name: str) -> tuple[int, int]:
        """Return the shard in which an utterance is, and how many of it come before it there."""
        row = self._index[name]
        shard = int(self._index.shard[row])
        return shard, row - int(np.searchsorted(self._index.shard, shard))

    def names_in(self, shard: int) -> list[str]:
        """Return the names of the utterances of a shard, in the order of the table."""
        return [self._index.names[row] for row in np.flatnonzero(self._index.shard == shard)]

    def reader(self, array: str, shard: int) -> BlockReader:
        """Return the reader of one shard of an array."""
        found = self._readers.get((array, shard))
        if found is None:
            layout = self.layouts[array]
            starts, counts = self.shard_places(array, shard)
            found = self.form.open_shard(self.name, array, shard, layout, starts, counts)
            self._readers[array, shard] = found
        return found

    def shard_places(self, array: str, shard: int) -> tuple[Ints, Ints]:
        """Return the first frame (or slot) in the shard of each of its utterances, and how many it has."""
        rows = np.flatnonzero(self._index.shard == shard)
        if array == "data":
            return self._starts[rows] % self._shard_frames, self.lengths[rows]
        return self._index.slot[rows] % self._slots, np.ones(len(rows), np.int64)

    @cached_property
    def layouts(self) -> dict[str, Any]:
        """The sharded arrays by name.

        Raises:
            StoreError: if the plan is damaged, so that utterances would lie on each other or outside of their shards.
        """
        place = f"{self.form.path}: the plan of {self.name}"
        layouts = array_layouts(self.spec, self._shard_frames, self._slots)
        for array, layout in layouts.items():
            odd = min(layout.shard) < 1 or prod(layout.grid) > MOST_CHUNKS
            if odd or self.form.shard_shape(self.name, array) != layout.shard:
                raise StoreError(f"{place} has shards of another shape than its frames: it is damaged")
        if not self._fits():
            raise StoreError(f"{place} has frames outside of their place: it is damaged; run ser-store verify")
        return layouts

    def _fits(self) -> bool:
        """Return whether every utterance has a place of its own, in the shard that the table says."""
        shard, slot, size = self._index.shard, self._index.slot, self._shard_frames
        if min(map(len, (*self.planned.values(), slot))) < len(shard) or size % CHUNK_FRAMES:
            return False
        slot = slot[: len(shard)]
        starts, lengths = self.planned["start"][: len(shard)], self.planned["frames"][: len(shard)]
        if (
            lengths.min() < 0
            or lengths.max() > min(size, MOST_FRAMES)
            or starts.min() < 0
            or (starts % CHUNK_FRAMES).any()
        ):
            return False
        ends = starts + padded(lengths)
        there = lengths > 0
        inside = (starts // size == shard) & (ends <= (shard + 1) * size)
        return bool((ends[:-1] <= starts[1:]).all() and inside[there].all() and (slot // self._slots == shard).all())

    def _slot(self, array: str, row: int, layers: slice) -> Floats:
        """Return what an array holds for an utterance, (layers, dim)."""
        return self.reader(array, self._shards[row]).get(self._slot_of[row], 1, layers)[:, 0]

    @cached_property
    def _starts(self) -> Ints:
        """The frame of the feature at which each row starts."""
        return self._checked_plan("start")

    @cached_property
    def _first_times(self) -> Seconds:
        """The time of the first frame of each row, in seconds."""
        return self._checked_plan("time")

    def _checked_plan(self, array: str) -> Array:
        """Return a part of the plan, once all of it is known to fit the frames."""
        self.layouts  # noqa: B018, it raises what is wrong
        return self.planned[array]

    def _read_plan(self, array: str, dtype: type[np.generic]) -> Array:
        values = self.form.array(f"features/{self.name}/{array}")
        if values.dtype != dtype:
            raise StoreError(f"{self.form.path}: {array} of {self.name} is of {values.dtype}: it is damaged")
        return values

    @cached_property
    def _affine(self) -> bool:
        return "scale" in self.layouts

    # an element of a compact array is read in a third of the time that one of a numpy array takes, in an eighth of the
    # memory of a list
    @cached_property
    def _shards(self) -> compact.array[int]:
        return compact.array("q", self._index.shard.tobytes())

    @cached_property
    def _slot_of(self) -> compact.array[int]:
        return compact.array("q", (self._index.slot % self._slots).tobytes())

    @cached_property
    def _within(self) -> compact.array[int]:
        return compact.array("q", (self._starts % self._shard_frames).tobytes())

    @cached_property
    def _counts(self) -> compact.array[int]:
        return compact.array("q", self.lengths.tobytes())

    @cached_property
    def _shard_frames(self) -> int:
        return self.form.shard_shape(self.name, "data")[1]

    @cached_property
    def _slots(self) -> int:
        return self.form.shard_shape(self.name, "mean")[1]
