"""Writing a store in three steps that can each be repeated: plan, shards, commit."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import pandas as pd

from featurestore.codec import Floats, encode
from featurestore.errors import StoreError
from featurestore.layout import PLANNED, array_layouts, shard_path
from featurestore.plan import FORMAT_VERSION, FeaturePlan, FeatureSpec, Plan, place_frames
from featurestore.shard import ShardWriter
from featurestore.table import read_table, table_digest, write_table
from featurestore.zarr3 import checksum, publish, read_array, read_json, write_array, write_group, write_json


class StoreWriter:
    """Writes one store.

    Every shard is a pure function of the plan, is written under a temporary name and renamed when it is on the
    disk: a writer can be killed at any instant and started again, and the bytes come out the same.

    Args:
        path: of the store; made by `plan`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path if path.name else path.absolute()  # the lock lies beside it, under its name

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other processes from writing to the same store.

        Raises:
            StoreError: naming the process that is writing to it.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path.with_name(f".{self.path.name}.lock"), "a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                raise StoreError(f"{self.path} is being written by {file.read().strip()}; wait for it") from None
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
            file.flush()
            yield

    def plan(self, plan: Plan) -> None:
        """Write the plan of a new store, or check that the store there has the same.

        Raises:
            StoreError: if the store that is there holds other utterances or labels.
        """
        if self.path.exists():
            self._check_same(plan)
            return
        temporary = self.path.with_name(f".{self.path.name}.tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        write_table(temporary / "table", plan.table)
        write_group(temporary / "features")
        attributes = {
            "format": FORMAT_VERSION,
            "dataset": plan.dataset,
            "ranges": _as_json(plan.ranges),
            "table_sha256": table_digest(plan.table),
            "left_out": plan.left_out,
        }
        write_group(temporary, attributes)
        publish(temporary, self.path)

    def _check_same(self, plan: Plan) -> None:
        found = read_json(self.path / "zarr.json")["attributes"]
        for key, asked in (("dataset", plan.dataset), ("ranges", _as_json(plan.ranges))):
            if found[key] != asked:
                raise StoreError(f"{self.path} has {key} {found[key]}, asked for was {asked}; use another --store")
        if found["table_sha256"] == table_digest(plan.table):
            return
        there = read_table(self.path / "table")
        raise StoreError(
            f"{self.path} holds other utterances or labels: {_table_difference(there, plan.table)}; "
            "use another --store, or delete this one"
        )

    def plan_feature(self, name: str, feature: FeaturePlan) -> None:
        """Write the plan of a feature, or check that the one that is there is the same.

        Raises:
            StoreError: naming each setting in which the feature that is there differs.
        """
        folder = self._feature(name)
        if folder.exists():
            differences = FeatureSpec(**read_json(folder / "zarr.json")["attributes"]).differences(feature.spec)
            if differences:
                raise StoreError(
                    f"{self.path} has the feature {name} with other settings: {'; '.join(differences)}; "
                    "use another --store, or delete this one"
                )
            return
        table = read_table(self.path / "table")
        start, shard_frames = place_frames(feature.frames, table["shard"].to_numpy())
        shards = int(table["shard"].max()) + 1
        slots = int(table.groupby("shard").size().max())
        temporary = folder.with_name(f".{name}.tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        for array, values in zip(PLANNED, (start, feature.frames, feature.times), strict=True):
            write_array(temporary / array, values, "utterance")
        for array, layout in array_layouts(feature.spec, shard_frames, slots).items():
            write_json(temporary / array / "zarr.json", layout.metadata(shards))
        write_group(temporary, feature.spec.to_dict())
        publish(temporary, folder)

    def pending(self, name: str) -> list[int]:
        """Return the shards of a feature that are still to be written, and clear away what a killed writer left."""
        folder = self._feature(name)
        for temporary in folder.rglob(".*.tmp"):
            temporary.unlink()
        shards = int(read_array(self.path / "table/shard").max()) + 1
        return [k for k in range(shards) if not _record(folder, k).exists()]

    def shard(self, name: str, number: int) -> FeatureShard:
        """Return the open shard ``number`` of a feature, to be used in a ``with`` block."""
        return FeatureShard(self.path, name, number)

    def commit(self, name: str) -> dict[str, str]:
        """Write the manifest of a feature, which says that it is complete, and return what failed, with the reason.

        Raises:
            StoreError: if shards are missing.
        """
        folder = self._feature(name)
        missing = self.pending(name)
        if missing:
            raise StoreError(f"{folder} is not complete: shards {missing} are missing")
        shards = int(read_array(self.path / "table/shard").max()) + 1
        records = [read_json(_record(folder, k)) for k in range(shards)]
        if not (folder / "manifest.json").exists():
            plan = {array: checksum(folder / array / "c/0") for array in PLANNED}
            write_json(folder / "manifest.json", {"plan": plan, "shards": records})
        return {name: reason for record in records for name, reason in record["failed"].items()}

    def _feature(self, name: str) -> Path:
        return self.path / "features" / name


class FeatureShard:
    """One shard of one feature, open for writing: `add` or `fail` each of its utterances, in any order."""

    def __init__(self, store: Path, name: str, number: int) -> None:
        self._folder, self._number = store / "features" / name, number
        self._spec = FeatureSpec(**read_json(self._folder / "zarr.json")["attributes"])
        table = read_table(store / "table")
        rows = np.flatnonzero(table["shard"] == number)
        self.names: list[str] = table.index[rows].tolist()
        shapes = {a: read_json(self._folder / a / "zarr.json")["chunk_grid"] for a in ("data", "mean")}
        self._shard_frames, self._slots = (g["configuration"]["chunk_shape"][1] for g in shapes.values())
        starts = read_array(self._folder / "start")[rows] % self._shard_frames
        slots = table["slot"].to_numpy()[rows] % self._slots
        frames = read_array(self._folder / "frames")[rows]
        self._place = dict(zip(self.names, zip(starts, slots, frames, strict=True), strict=True))
        self._failed: dict[str, str] = {}

    def __enter__(self) -> Self:
        layouts = array_layouts(self._spec, self._shard_frames, self._slots)
        self._files = {
            array: ShardWriter(shard_path(self._folder, array, self._number), layout.shard, layout.chunk)
            for array, layout in layouts.items()
        }
        return self

    def add(self, name: str, frames: Floats) -> None:
        """Store the frames (layers, frames, dim) of an utterance; what cannot be stored is recorded as failed.

        Raises:
            StoreError: if their shape is not the planned one.
        """
        start, slot, count = (int(place) for place in self._place[name])
        expected = (self._spec.layers, count, self._spec.dim)
        if frames.shape != expected:
            raise StoreError(f"{self._folder.name} of {name} has the shape {frames.shape}, planned was {expected}")
        try:
            stored = encode(frames, self._spec.dtype)
        except ValueError as error:
            self.fail(name, str(error))
            return
        self._files["data"].put(start, stored.values)
        mean = frames.mean(axis=1, dtype=np.float64)
        sd = np.sqrt(np.square(frames - mean[:, None]).mean(axis=1))
        per_utterance = {"mean": mean, "sd": sd, "scale": stored.scale, "offset": stored.offset}
        for array, values in per_utterance.items():
            if values is not None:
                self._files[array].put(slot, values.astype(np.float32)[:, None])

    def fail(self, name: str, reason: str) -> None:
        """Record that an utterance has no frames, and why."""
        self._failed[name] = reason

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            for file in self._files.values():
                file.abort()
            return
        files = {array: file.close() for array, file in self._files.items()}
        failed = {name: self._failed[name] for name in self.names if name in self._failed}
        write_json(_record(self._folder, self._number), {"files": files, "failed": failed})


def _as_json(ranges: dict[str, tuple[float, float]]) -> dict[str, list[float]]:
    return {target: list(scale) for target, scale in ranges.items()}


def _record(feature: Path, shard: int) -> Path:
    return feature / "shards" / f"{shard}.json"


def _table_difference(there: pd.DataFrame, asked: pd.DataFrame) -> str:
    new, gone = asked.index.difference(there.index), there.index.difference(asked.index)
    if len(new) or len(gone):
        some = [*new[:2], *gone[:2]]
        return f"{len(new)} utterances are new and {len(gone)} are gone, e.g. {', '.join(some)}"
    if set(there.columns) != set(asked.columns):
        return f"the columns {sorted(set(there.columns) ^ set(asked.columns))} are not in both"
    changed = [c for c in there.columns if table_digest(there[[c]]) != table_digest(asked.loc[there.index, [c]])]
    return f"the columns {changed} have changed" if changed else "their order has changed"
