"""Writing a store in three steps that can each be repeated: plan, shards, commit."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from featurestore.documents import is_name
from featurestore.errors import StoreError
from featurestore.feature import FeatureStore
from featurestore.feature_shard import FeatureShard
from featurestore.forms import open_form_to_write
from featurestore.growth import as_json_ranges, check_growth, check_same, count_slots, grow
from featurestore.layout import PLANNED, array_layouts, check_plan, sealed
from featurestore.plan import FORMAT_VERSION, FeaturePlan, FeatureSpec, Plan, place_frames
from featurestore.store import Index
from featurestore.table import read_intact_table, read_table, table_digest, write_table
from featurestore.zarr3 import naming


class StoreWriter:
    """Writes one store.

    Every shard is a pure function of the plan, and counts only when its record is on the disk after it: a writer can
    be killed at any instant and started again, and the bytes come out the same.

    Args:
        path: of the store; made by `plan`.

    Raises:
        StoreError: if it is not on this machine.
    """

    def __init__(self, path: str | Path) -> None:
        self.form = open_form_to_write(path)
        self.path = Path(self.form.path)
        self._index: Index | None = None
        self._parts: dict[str, FeatureStore] = {}

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other processes from writing to the same store, and let readers see what was written at the end.

        What is written into an HDF5 file, they see then; left with an error, all of it is there when the same is
        written again.

        Raises:
            StoreError: naming the process that is writing to it.
        """
        path = Path(os.path.realpath(self.path))  # the lock lies beside it, under its name, however it is called
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(
            path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666
        )
        with open(lock, "r+b", buffering=0) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                other = file.read().decode().strip()
                raise StoreError(f"{self.path} is being written by {other}; wait for it") from None
            with naming(path):
                file.truncate(0)
                file.write(f"process {os.getpid()} on {socket.gethostname()}\n".encode())
            self.form.recover()
            self._forget()
            yield
            self.form.publish()
            self._forget()

    @contextmanager
    def change_at_once(self) -> Iterator[None]:
        """The same as `lock` for a small change: left with an error, or killed, nothing of it has happened.

        Raises:
            StoreError: naming the process that is writing to it.
        """
        with self.lock():
            self.form.publish()  # what a killed extraction left: it is not part of this change
            resumable, self.form = self.form, self.form.at_once_form()
            try:
                yield
                self.form.publish()
            except BaseException:
                self.form.discard()
                raise
            finally:
                self.form = resumable
                self._forget()

    def _forget(self) -> None:
        """Forget what has been read: others may have written since, or the file is another one."""
        self._index, self._parts = None, {}

    @property
    def table(self) -> pd.DataFrame:
        """The utterance table as it is in the store."""
        return read_table(self.form)

    def plan(self, plan: Plan) -> None:
        """Write the plan of a new store, or check that the store there holds these utterances with these labels.

        Raises:
            StoreError: if it holds other utterances or labels.
        """
        if self.form.exists():
            check_same(self.form, plan)
            return
        others = self.form.others()
        if others:
            raise StoreError(f"{self.path} is a folder with something else in it, e.g. {others[0]}; give another path")
        attributes = {
            "format": FORMAT_VERSION,
            "dataset": plan.dataset,
            "ranges": as_json_ranges(plan.ranges),
            "table_sha256": table_digest(plan.table),
            "left_out": plan.left_out,
        }
        with self.form.change() as change:
            write_table(change, plan.table)
            change.group("features", {})
            change.group("", sealed(attributes))

    def check_growth(self, plan: Plan, features: Mapping[str, FeaturePlan]) -> None:
        """Check that `grow` can add the utterances of ``plan``; nothing is written.

        Raises:
            StoreError: if the labels or features contradict the store, or an utterance is longer than its shards.
        """
        check_growth(self.form, plan, features)

    def grow(self, plan: Plan, features: Mapping[str, FeaturePlan], shard_seconds: float) -> int:
        """Add the utterances of ``plan`` that the store does not have, in shards of their own; nothing is rewritten.

        Args:
            plan: what the store should hold as well; its utterances that are there already must have the same labels.
            features: every feature of the store, with the frames of the utterances of ``plan`` in its order.
            shard_seconds: audio in a shard.

        Returns:
            How many utterances are new.

        Raises:
            StoreError: if the labels or features contradict the store, or an utterance is longer than its shards.
        """
        self._forget()
        return grow(self.form, plan, features, shard_seconds)

    def replace_table(self, table: pd.DataFrame) -> None:
        """Write other labels of the same utterances.

        Raises:
            StoreError: if those that are there are damaged.
        """
        read_intact_table(self.form)
        with self.form.change() as change:
            write_table(change, table)
            change.group("", sealed({**self.form.root(), "table_sha256": table_digest(table)}))

    def has(self, name: str) -> bool:
        """Return whether the store is there and has a feature, finished or not."""
        return self.form.exists() and name in self.form.features()

    def check_feature(self, name: str, spec: FeatureSpec) -> None:
        """Check that a feature can be stored, and is not there yet, or with the same settings.

        Raises:
            StoreError: naming each setting in which the feature that is there differs.
        """
        if not is_name(name):
            raise StoreError(f"a feature cannot be named {name!r}: it is the name of a folder in the store")
        if not self.has(name):
            if spec.compress and not self.form.compresses:
                raise StoreError(
                    f"{self.path} cannot hold {name} with compress={spec.compress}, the HDF5 form stores frames as "
                    "they are: give a path that ends in .zarr"
                )
            return
        differences = self.form.spec(name).differences(spec)
        if differences:
            raise StoreError(
                f"{self.path} has the feature {name} with other settings: {'; '.join(differences)}; "
                f"use another --store, or drop this one: ser-store repair {self.path} --drop {name}"
            )

    def plan_feature(self, name: str, feature: FeaturePlan) -> None:
        """Write the plan of a feature, or check that the one that is there is the same.

        Args:
            name: of the feature.
            feature: for every utterance of the store, in the order of its table.

        Raises:
            StoreError: naming each setting in which the feature that is there differs.
        """
        self.check_feature(name, feature.spec)
        if self.has(name):
            return
        table = self.table
        if len(feature.frames) != len(table):
            raise StoreError(f"the plan of {name} is of {len(feature.frames)} utterances, {self.path} has {len(table)}")
        shard = table["shard"].to_numpy()
        start, shard_frames = place_frames(feature.frames, shard)
        slots = count_slots(table)
        group, layouts = f"features/{name}", array_layouts(feature.spec, shard_frames, slots)
        for array, layout in layouts.items():
            self.form.check_layout(f"{group}/{array}", layout)
        with self.form.change() as change:
            change.group(group, feature.spec.to_dict())
            for array, values in zip(PLANNED, (start, feature.frames, feature.times), strict=True):
                change.array(f"{group}/{array}", values, "utterance")
            for array, layout in layouts.items():
                change.sharded(f"{group}/{array}", layout, int(shard.max()) + 1)

    def pending(self, name: str) -> list[int]:
        """Return the shards of a feature that are still to be written, and clear away what a killed writer left."""
        self.form.clear(name, keep_records=True)
        written = self._written(name)
        return [k for k in range(self.index.shards) if k not in written]

    def shard(self, name: str, number: int) -> FeatureShard:
        """Return the open shard ``number`` of a feature, to be used in a ``with`` block."""
        return FeatureShard(self.form, self.part(name), number)

    def commit(self, name: str) -> None:
        """Write the manifest of a feature, which says what is complete.

        Raises:
            StoreError: if shards are missing, or the plan is damaged.
        """
        missing = self.pending(name)
        if missing:
            raise StoreError(f"{self.path}: {name} is not complete: shards {missing} are missing")
        records = self._written(name)
        manifest = self.form.manifest(name)
        if manifest is None or len(manifest["shards"]) < len(records):
            checksums = self.part(name).checksums
            if manifest is not None:
                check_plan(checksums, manifest["plan"], f"{name} in {self.path}")
            with self.form.change() as change:
                shards = {str(number): records[number] for number in sorted(records)}
                change.manifest(name, {"plan": checksums, "shards": shards})
        self.form.clear(name, keep_records=False)
        self._parts.pop(name, None)  # whose manifest is that of before

    def drop(self, name: str, shards: set[int] | None) -> None:
        """Take ``shards`` of a feature for not written, or forget all of the feature where it is None."""
        self._parts.pop(name, None)
        if shards is None:
            with self.form.change() as change:
                change.remove(name)
            self.form.clear(name, keep_records=False)
            return
        manifest = self.form.manifest(name)
        for number in shards:
            self.form.drop_record(name, number)
        if manifest is not None:
            left = {k: record for k, record in manifest["shards"].items() if int(k) not in shards}
            with self.form.change() as change:
                change.manifest(name, {**manifest, "shards": left})

    def _written(self, name: str) -> dict[int, Any]:
        manifest = self.form.manifest(name) or {"shards": {}}
        return {**{int(k): record for k, record in manifest["shards"].items()}, **self.form.records(name)}

    @property
    def index(self) -> Index:
        """The rows of the table by name."""
        if self._index is None:
            self._index = Index(self.form)
        return self._index

    def part(self, name: str) -> FeatureStore:
        """Return the plan of a feature."""
        if name not in self._parts:
            self._parts[name] = FeatureStore(self.form, name, self.index)
        return self._parts[name]
