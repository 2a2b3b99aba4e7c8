"""One feature of a store without its frames: its shards, those that are written, and where each utterance is."""

from __future__ import annotations

from functools import cached_property
from math import prod
from typing import NamedTuple

import numpy as np

from featurestore.format.backend import Backend, Record
from featurestore.format.documents import Tree
from featurestore.format.files import Array
from featurestore.format.index import Index
from featurestore.format.layout import PLANNED, ArrayLayout, array_layouts, plan_checksums
from featurestore.format.plan import CHUNK_FRAMES, Ints, Seconds, padded
from featurestore.shared.errors import StoreError

MOST_FRAMES = 1 << 26
"""The most frames of an utterance: a week of them."""
FRAMES_OUTSIDE = "frames outside of their place"
MOST_CHUNKS = 1 << 23
"""The most chunks of a shard: its index then takes 128 MB."""


class _Places(NamedTuple):
    """The first frame of each row in its shard, and its number of frames."""

    firsts: Ints
    lengths: Ints


class PlannedFeature:
    """One feature of a store without its frames; what was read once is kept.

    Args:
        backend: of the store.
        name: of the feature.
        index: the utterances' rows by name, and the shard and slot of each row.
    """

    def __init__(self, backend: Backend, name: str, index: Index) -> None:
        self.backend, self.name, self._index = backend, name, index
        self.spec = backend.spec(name)
        self._plan: dict[str, Array] = {}

    @property
    def path(self) -> str:
        """The path of the store."""
        return str(self.backend.path)

    @cached_property
    def manifest(self) -> Tree:
        """Checksums of the plan and of all shards that have been committed, with what failed in them."""
        return self.backend.manifest(self.name) or {"plan": {}, "shards": {}}

    @cached_property
    def shards(self) -> int:
        """The number of shards."""
        return self._index.shards

    @cached_property
    def complete(self) -> bool:
        """Whether all shards are extracted."""
        return len(self.manifest["shards"]) == self.shards

    @cached_property
    def records(self) -> dict[int, Record]:
        """The checksums and failures of each shard that has been written, by number.

        Raises:
            StoreError: if a record does not fit the shards of the store.
        """
        records = {int(number): record for number, record in self.manifest["shards"].items()}
        if not self.complete:
            records |= self.backend.records(self.name)
        utterances, arrays = np.bincount(self._index.shard).tolist(), set(self.layouts)
        for number, record in records.items():
            if number >= self.shards or len(record["utterances"]) != 8 * utterances[number]:
                raise StoreError(f"{self.backend.path}: the record of shard {number} of {self.name} is damaged")
            if not arrays <= record["files"].keys():
                raise StoreError(f"{self.backend.path}: the record of shard {number} of {self.name} lacks checksums")
        return records

    @property
    def size(self) -> int:
        """The bytes of all shards."""
        return sum(file["bytes"] for record in self.records.values() for file in record["files"].values())

    @cached_property
    def failed(self) -> dict[str, str]:
        """The utterances that have no frames, with the reason; if it is unfinished, also those not extracted yet."""
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
        """Remarks on utterances whose frames or audio are odd, by name."""
        return {name: what for record in self.records.values() for name, what in record.get("flagged", {}).items()}

    @property
    def planned(self) -> dict[str, Array]:
        """The arrays of the plan by their names on the disk, unchecked."""
        return {array: self._planned(array) for array in PLANNED}

    @property
    def checksums(self) -> dict[str, int]:
        """The CRC-32C of each part of the present plan."""
        return plan_checksums(self.spec, self.planned)

    @property
    def lengths(self) -> Ints:
        """The number of frames of each utterance, in the order of the table.

        Raises:
            StoreError: if the plan is damaged.
        """
        return self._places.lengths

    def shard_of(self, name: str) -> tuple[int, int]:
        """Return the shard of an utterance, and its rank there."""
        row = self._index[name]
        shard = int(self._index.shard[row])
        return shard, row - int(np.searchsorted(self._index.shard, shard))

    def checksum(self, name: str) -> str:
        """Return the CRC-32C of the stored frames of an utterance, eight hexadecimal digits."""
        shard, rank = self.shard_of(name)
        return str(self.records[shard]["utterances"][8 * rank : 8 * rank + 8])

    def names_in(self, shard: int) -> list[str]:
        """Return the names of the utterances of a shard, in the order of the table."""
        return [self._index.names[row] for row in np.flatnonzero(self._index.shard == shard)]

    def shard_places(self, array: str, shard: int) -> tuple[Ints, Ints]:
        """Return the first frame (or slot) in the shard of each of its utterances, and how many it has."""
        rows = np.flatnonzero(self._index.shard == shard)
        if array == "data":
            return self._places.firsts[rows], self.lengths[rows]
        return self._slots[rows], np.ones(len(rows), np.int64)

    @cached_property
    def layouts(self) -> dict[str, ArrayLayout]:
        """The sharded arrays by name.

        Raises:
            StoreError: if they are damaged.
        """
        shapes = {array: self.backend.shard_shape(self.name, array) for array in array_layouts(self.spec, 0, 0)}
        layouts = array_layouts(self.spec, shapes["data"][1], shapes["mean"][1])
        for array, layout in layouts.items():
            if shapes[array] != layout.shard or min(layout.shard) < 1 or prod(layout.grid) > MOST_CHUNKS:
                raise self._damaged("shards of another shape than its frames")
        return layouts

    def _planned(self, array: str) -> Array:
        """Return an array of the plan, after checking its type and length alone."""
        if array not in self._plan:
            values = self.backend.array(f"features/{self.name}/{array}")
            if values.dtype.name != PLANNED[array] or len(values) < len(self._index.shard):
                raise self._damaged(f"{len(values)} values of {values.dtype} as {array}")
            self._plan[array] = values
        return self._plan[array]

    @cached_property
    def _places(self) -> _Places:
        starts, lengths = self._planned("start"), self._planned("frames")
        size = self.layouts["data"].shard[1]
        odd = size % CHUNK_FRAMES or np.bitwise_or.reduce(starts) % CHUNK_FRAMES
        if odd or lengths.min() < 0 or lengths.max() > min(size, MOST_FRAMES):
            raise self._damaged(FRAMES_OUTSIDE)
        return _Places(self._in_shards("data", starts, padded(lengths)), lengths)

    @cached_property
    def _first_times(self) -> Seconds:
        """The time of the first frame of each row, in seconds."""
        return self._planned("time")

    @cached_property
    def _slots(self) -> Ints:
        """The slot of each row in its shard."""
        return self._in_shards("mean", self._index.slot, np.ones(len(self._index.slot), np.int64))

    def _in_shards(self, array: str, places: Ints, taken: Ints) -> Ints:
        """Return the place of each utterance in its shard, from its place on the whole axis and the room it takes.

        Raises:
            StoreError: if utterances overlap, or lie outside of their shards in the table.
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
        return StoreError(
            f"{self.backend.path}: the plan of {self.name} has {found}: it is damaged; run ser-store verify"
        )
