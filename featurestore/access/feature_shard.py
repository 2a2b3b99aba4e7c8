"""One shard of one feature, open for writing."""

from __future__ import annotations

from dataclasses import replace
from types import TracebackType
from typing import Self

import numpy as np

from featurestore.format.codec import Floats, Frames, encode, pool
from featurestore.format.planned import PlannedFeature
from featurestore.format.zarr import ZarrBackend
from featurestore.shared.errors import StoreError


class FeatureShard:
    """One shard of one feature, open for writing: `add`, `put` or `fail` each of its utterances, in any order.

    Any of them can be given a `flag`, too.

    Args:
        backend: of the store.
        feature: the feature.
        number: of the shard.
    """

    def __init__(self, backend: ZarrBackend, feature: PlannedFeature, number: int) -> None:
        self._backend, self._name, self._number = backend, feature.name, number
        self._spec, self._layouts, self.names = feature.spec, feature.layouts, feature.names_in(number)
        starts, counts = feature.shard_places("data", number)
        slots, _ = feature.shard_places("mean", number)
        self._starts, self._counts, self._slots = starts.tolist(), counts.tolist(), slots.tolist()
        self._waiting: dict[int, str | tuple[Frames, Floats, Floats]] = {}
        self._ranks = {utterance: rank for rank, utterance in enumerate(self.names)}
        self._next = 0
        self._failed: dict[str, str] = {}
        self._flagged: dict[str, str] = {}
        self._crcs: list[int] = []

    def __enter__(self) -> Self:
        self._files = self._backend.write_shard(self._name, self._number, self._layouts)
        return self

    def add(self, name: str, frames: Floats) -> None:
        """Store the frames (layers, frames, dim) of an utterance; if they cannot be stored, it has failed.

        Raises:
            StoreError: if their shape is not the planned one.
        """
        expected = (self._spec.layers, self._counts[self._rank(name)], self._spec.dim)
        if frames.shape != expected:
            raise StoreError(f"{self._name} of {name} has the shape {frames.shape}, expected {expected} as planned")
        with np.errstate(over="ignore"):
            frames = np.asarray(frames, np.float32)
        try:
            stored, (mean, sd) = encode(frames, self._spec.dtype), pool(frames)
        except ValueError as error:
            self.fail(name, str(error))
            return
        self.put(name, stored, mean, sd)

    def put(self, name: str, stored: Frames, mean: Floats, sd: Floats) -> None:
        """Store frames that are encoded already, with their mean and standard deviation over time (layers, dim).

        Raises:
            StoreError: if their shape or data type is not the planned one.
        """
        expected = (self._spec.layers, self._counts[self._rank(name)], self._layouts["data"].shard[2])
        if (stored.values.shape, stored.dtype) != (expected, self._spec.dtype):
            found = f"{stored.values.shape} {stored.dtype}"
            raise StoreError(f"{self._name} of {name} is {found}, expected {expected} {self._spec.dtype} as planned")
        shape = (self._spec.layers, self._spec.dim)
        for values in (mean, sd, stored.scale, stored.offset):
            if values is not None and values.shape != shape:
                raise StoreError(f"{self._name} of {name} has statistics or scales {values.shape}, expected {shape}")
        if self._ranks[name] != self._next:  # it waits for others, and the caller may change its array
            stored = replace(stored, values=np.array(stored.values))
        self._take(name, (stored, mean, sd))

    def fail(self, name: str, reason: str) -> None:
        """Record that an utterance has failed: it has no frames, for this reason."""
        self._take(name, reason)

    def flag(self, name: str, remark: str) -> None:
        """Record a remark on an utterance, if it is not empty."""
        if remark:
            self._flagged[name] = "; ".join(filter(None, (self._flagged.get(name), remark)))

    def _take(self, name: str, content: str | tuple[Frames, Floats, Floats]) -> None:
        """Keep an utterance until all before it are written: the order of a file is that of the plan."""
        rank = self._rank(name)
        if rank < self._next or rank in self._waiting:
            raise StoreError(f"{self._name} of {name} was given twice, expected once")
        self._waiting[rank] = content
        while self._next in self._waiting:
            self._write(self._next, self._waiting.pop(self._next))
            self._next += 1

    def _rank(self, name: str) -> int:
        if name not in self._ranks:
            raise StoreError(f"{name} is not in shard {self._number} of {self._name}")
        return self._ranks[name]

    def _write(self, rank: int, content: str | tuple[Frames, Floats, Floats]) -> None:
        if isinstance(content, str):
            self._failed[self.names[rank]] = content
            self._crcs.append(0)
            return
        stored, mean, sd = content
        self._crcs.append(self._files.arrays["data"].put(self._starts[rank], stored.values))
        per_utterance = {"mean": mean, "sd": sd, "scale": stored.scale, "offset": stored.offset}
        for array, values in per_utterance.items():
            if values is not None:
                self._files.arrays[array].put(self._slots[rank], values[:, None])

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._files:
            if kind is not None:
                return
            if self._next < len(self.names):
                missing = [self.names[rank] for rank in range(self._next, len(self.names)) if rank not in self._waiting]
                raise StoreError(
                    f"{self._name}: shard {self._number} got neither frames nor a failure of {', '.join(missing[:5])}"
                )
            files = self._files.close()
        flagged = {name: self._flagged[name] for name in self.names if name in self._flagged}
        crcs = "".join(f"{crc:08x}" for crc in self._crcs)
        record = {"files": files, "utterances": crcs, "failed": self._failed}
        if flagged:
            record["flagged"] = flagged
        self._backend.write_record(self._name, self._number, record)
