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
from featurestore.layout import AFFINE, PLANNED, POOLED, array_layouts, plan_checksums
from featurestore.plan import CHUNK_FRAMES, Ints, Seconds, padded
from featurestore.shard import ALL, BlockReader

if TYPE_CHECKING:
    from featurestore.store import Index

MOST_FRAMES = 1 << 26
"""Frames that are believed of an utterance: a week."""
FRAMES_OUTSIDE = "frames outside of their place"
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
        self._plan: dict[str, Array] = {}

    @property
    def path(self) -> str:
        """The path of the store."""
        return str(self.form.path)

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
        utterances, arrays = np.bincount(self._index.shard).tolist(), set(self.layouts)
        for number, record in records.items():
            if number >= self.shards or len(record["utterances"]) != 8 * utterances[number]:
                raise StoreError(f"{self.form.path}: the record of shard {number} of {self.name} is damaged")
            if not arrays <= record["files"].keys():
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

    @property
    def planned(self) -> dict[str, Array]:
        """All of the plan as it was found, by the names that its parts have on the disk: it may not fit the frames."""
        return {array: self._planned(array) for array in PLANNED}

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
        self._firsts  # noqa: B018, it raises what is wrong
        return self._planned("frames")

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
        row = self._row(name)
        run, within = (ALL, ALL) if layers is None else layer_range(layers, self.spec.layers)
        return Block(self.reader("data", self._shards[row]), row, self._within[row], self._counts[row], run, within)

    def _row(self, name: str) -> int:
        if name in self.failed:
            raise StoreError(f"{name} has no {self.name}: {self.failed[name]}")
        return self._index[name]

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
        rows = [self._row(name) for name in names]
        mean, sd = (np.stack([self._slot(array, row, ALL) for row in rows]) for array in POOLED)
        return mean, sd

    def shard_of(self, name: str) -> tuple[int, int]:
        """Return the shard in which an utterance is, and how many of it come before it there."""
        row = self._index[name]
        shard = int(self._index.shard[row])
        return shard, row - int(np.searchsorted(self._index.shard, shard))

    def checksum(self, name: str) -> str:
        """Return the checksum of what is stored of an utterance, eight hexadecimal digits."""
        shard, rank = self.shard_of(name)
        return str(self.records[shard]["utterances"][8 * rank : 8 * rank + 8])

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
            return self._firsts[rows], self.lengths[rows]
        return self._slots[rows], np.ones(len(rows), np.int64)

    @cached_property
    def layouts(self) -> dict[str, Any]:
        """The sharded arrays by name.

        Raises:
            StoreError: if they are damaged.
        """
        shapes = {array: self.form.shard_shape(self.name, array) for array in array_layouts(self.spec, 0, 0)}
        layouts = array_layouts(self.spec, shapes["data"][1], shapes["mean"][1])
        for array, layout in layouts.items():
            if shapes[array] != layout.shard or min(layout.shard) < 1 or prod(layout.grid) > MOST_CHUNKS:
                raise self._damaged("shards of another shape than its frames")
        return layouts

    def _slot(self, array: str, row: int, layers: slice) -> Floats:
        """Return what an array holds for an utterance, (layers, dim)."""
        return self.reader(array, self._shards[row]).get(self._slot_of[row], 1, layers)[:, 0]

    def _planned(self, array: str) -> Array:
        """Return a part of the plan as it was found."""
        if array not in self._plan:
            values = self.form.array(f"features/{self.name}/{array}")
            if values.dtype.name != PLANNED[array] or len(values) < len(self._index.shard):
                raise self._damaged(f"{len(values)} values of {values.dtype} as {array}")
            self._plan[array] = values
        return self._plan[array]

    @cached_property
    def _first_times(self) -> Seconds:
        """The time of the first frame of each row, in seconds."""
        self._firsts  # noqa: B018, it raises what is wrong
        return self._planned("time")

    @cached_property
    def _firsts(self) -> Ints:
        """The first frame of each row in its shard."""
        starts, lengths = self._planned("start"), self._planned("frames")
        size = self.layouts["data"].shard[1]
        odd = size % CHUNK_FRAMES or np.bitwise_or.reduce(starts) % CHUNK_FRAMES
        if odd or lengths.min() < 0 or lengths.max() > min(size, MOST_FRAMES):
            raise self._damaged(FRAMES_OUTSIDE)
        return self._in_shards("data", starts, padded(lengths))

    @cached_property
    def _slots(self) -> Ints:
        """The slot of each row in its shard."""
        return self._in_shards("mean", self._index.slot, np.ones(len(self._index.slot), np.int64))

    def _in_shards(self, array: str, places: Ints, taken: Ints) -> Ints:
        """Return where in its shard each utterance is, from where it is on the whole axis and the room it takes.

        Raises:
            StoreError: if utterances would lie on each other, or outside of the shards that the table says.
        """
        shard, size = self._index.shard, self.layouts[array].shard[1]
        if len(places) < len(shard):
            raise self._damaged(FRAMES_OUTSIDE)
        places, taken = places[: len(shard)], taken[: len(shard)]
        within: Ints = places - shard * size
        if within.min() < 0 or (within > size - taken).any() or (places[:-1] + taken[:-1] > places[1:]).any():
            raise self._damaged(FRAMES_OUTSIDE)
        return within

    def _damaged(self, found: str) -> StoreError:
        return StoreError(f"{self.form.path}: the plan of {self.name} has {found}: it is damaged; run ser-store verify")

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
        return compact.array("q", self._slots.tobytes())

    @cached_property
    def _within(self) -> compact.array[int]:
        return compact.array("q", self._firsts.tobytes())

    @cached_property
    def _counts(self) -> compact.array[int]:
        return compact.array("q", self.lengths.tobytes())
