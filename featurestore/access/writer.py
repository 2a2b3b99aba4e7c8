"""Write a store in three steps, each of which can be repeated: plan, shards, commit."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from featurestore.access.agreement import check_same
from featurestore.access.feature_shard import FeatureShard
from featurestore.format.atomic import naming
from featurestore.format.backend import Record
from featurestore.format.documents import Tree, is_name
from featurestore.format.index import Index
from featurestore.format.layout import PLANNED, array_layouts, check_plan, sealed
from featurestore.format.opening import open_backend_to_write
from featurestore.format.plan import (
    FORMAT_VERSION,
    FeaturePlan,
    FeatureSpec,
    Plan,
    as_json_ranges,
    count_slots,
    place_frames,
)
from featurestore.format.planned import PlannedFeature
from featurestore.format.table import check_intact, read_table, table_digest, write_table
from featurestore.format.zarr import Change
from featurestore.shared.errors import StoreError


class StoreWriter:
    """Writes one store.

    Every shard is a pure function of the plan, and counts only once its record is on the disk, too. So a writer can be
    killed at any instant and started again, and the bytes come out the same.

    Args:
        path: of the store, which `plan` makes.

    Raises:
        StoreError: if the path is not on this machine.
    """

    def __init__(self, path: str | Path) -> None:
        self.backend = open_backend_to_write(path)
        self.path = Path(self.backend.path)
        self._index: Index | None = None
        self._table: pd.DataFrame | None = None
        self._features: dict[str, PlannedFeature] = {}

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other processes from writing to the store while the block runs.

        Readers of an HDF5 file see what was written when the block ends. If it ends with an error, what was written
        stays, and the next writer goes on from there.

        Raises:
            StoreError: naming the process that is writing to it.
        """
        path = Path(os.path.realpath(self.path))  # beside the store itself, if the path is a link
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
            self.backend.recover()
            self._forget()
            yield
            self.backend.publish()
            self._forget()

    @contextmanager
    def change_at_once(self) -> Iterator[None]:
        """Lock the store for a small change: if the block raises an error, or the process is killed, none is made.

        Raises:
            StoreError: naming the process that is writing to it.
        """
        with self.lock():
            self.backend.publish()  # what a killed extraction left is not part of this change
            resumable, self.backend = self.backend, self.backend.at_once_backend()
            try:
                yield
                self.backend.publish()
            except BaseException:
                self.backend.discard()
                raise
            finally:
                self.backend = resumable
                self._forget()

    def _forget(self) -> None:
        """Forget what was read: the store may have changed since, or its file may have been replaced."""
        self._index, self._table, self._features = None, None, {}

    def exists(self) -> bool:
        """Return whether there is a store."""
        return self.backend.exists()

    def room(self, size: int) -> int:
        """Return how many bytes must be free on the disk to write shards of so many bytes."""
        return self.backend.room(size)

    def dataset(self) -> str:
        """Return the name of the dataset that is in the store."""
        return str(self.backend.root()["dataset"])

    @property
    def table(self) -> pd.DataFrame:
        """The utterance table of the store: read once, and again after each change."""
        if self._table is None:
            self._table = read_table(self.backend)
        return self._table

    @contextmanager
    def change(self) -> Iterator[Change]:
        """Yield a change of the table, attributes and plans, which is made if the block raises no error."""
        with self.backend.change() as change:
            yield change
        self._forget()

    def plan(self, plan: Plan) -> None:
        """Write the plan of a new store, or check that an existing one holds these utterances with these labels.

        Raises:
            StoreError: if it holds other utterances or labels.
        """
        if self.exists():
            check_same(self.backend, self.table, plan)
            return
        others = self.backend.others()
        if others:
            raise StoreError(f"{self.path} is not a store, but a folder that holds {others[0]}; give another path")
        attributes = {
            "format": FORMAT_VERSION,
            "dataset": plan.dataset,
            "ranges": as_json_ranges(plan.ranges),
            "table_sha256": table_digest(plan.table),
            "left_out": plan.left_out,
        }
        with self.change() as change:
            write_table(change, plan.table)
            change.group("features", {})
            change.group("", sealed(attributes))

    def replace_table(self, table: pd.DataFrame) -> None:
        """Replace the labels of the same utterances.

        Raises:
            StoreError: if the present ones are damaged.
        """
        attributes = check_intact(self.backend, self.table)
        with self.change() as change:
            write_table(change, table)
            change.group("", sealed({**attributes, "table_sha256": table_digest(table)}))

    def has(self, name: str) -> bool:
        """Return whether the store is there and has a feature, finished or not."""
        return self.exists() and name in self.backend.features()

    def check_feature(self, name: str, spec: FeatureSpec) -> None:
        """Check that a feature can be stored, and that the store does not have it with other settings.

        Raises:
            StoreError: naming each setting in which the stored feature differs.
        """
        if not is_name(name):
            raise StoreError(f"a feature cannot be named {name!r}: expected a name that a folder of the store can have")
        if not self.has(name):
            if spec.compress and not self.backend.compresses:
                raise StoreError(
                    f"{self.path} cannot hold {name} with compress={spec.compress}, an HDF5 file is not compressed: "
                    "give a path that ends in .zarr"
                )
            return
        differences = self.backend.spec(name).differences(spec)
        if differences:
            raise StoreError(
                f"{self.path} has the feature {name} with other settings: {'; '.join(differences)}; "
                f"use another --store, or drop this one: ser-store repair {self.path} --drop {name}"
            )

    def plan_feature(self, name: str, feature: FeaturePlan) -> None:
        """Write the plan of a feature, or check that the stored one has the same settings.

        Args:
            name: of the feature.
            feature: for every utterance of the store, in the order of its table.

        Raises:
            StoreError: naming each setting in which the stored feature differs.
        """
        self.check_feature(name, feature.spec)
        if self.has(name):
            return
        shard, shards = self.index.shard, self.index.shards
        if len(feature.frames) != len(shard):
            raise StoreError(
                f"the plan of {name} has {len(feature.frames)} utterances, expected {len(shard)} as in {self.path}"
            )
        start, shard_frames = place_frames(feature.frames, shard)
        slots = count_slots(shard, self.index.slot)
        group, layouts = f"features/{name}", array_layouts(feature.spec, shard_frames, slots)
        for array, layout in layouts.items():
            self.backend.check_layout(f"{group}/{array}", layout)
        with self.backend.change() as change:  # nothing that was read changes
            change.group(group, feature.spec.to_dict())
            for array, values in zip(PLANNED, (start, feature.frames, feature.times), strict=True):
                change.array(f"{group}/{array}", values, "utterance")
            for array, layout in layouts.items():
                change.sharded(f"{group}/{array}", layout, shards)

    def pending(self, name: str) -> list[int]:
        """Return the shards of a feature that are still to be written."""
        return self._missing(self._written(name, self.backend.manifest(name)))

    def shard(self, name: str, number: int) -> FeatureShard:
        """Return the open shard ``number`` of a feature, to be used in a ``with`` block."""
        return FeatureShard(self.backend, self.feature(name), number)

    def commit(self, name: str) -> None:
        """Write the manifest of a feature, which makes it complete.

        Raises:
            StoreError: if shards are missing, or the plan is damaged.
        """
        manifest = self.backend.manifest(name)
        records = self._written(name, manifest)
        missing = self._missing(records)
        if missing:
            raise StoreError(f"{self.path}: {name} is not complete, shards {missing} are missing: extract them first")
        if manifest is None or len(manifest["shards"]) < len(records):
            checksums = self.feature(name).checksums
            if manifest is not None:
                check_plan(checksums, manifest["plan"], f"{name} in {self.path}")
            with self.backend.change() as change:
                shards = {str(number): records[number] for number in sorted(records)}
                change.manifest(name, {"plan": checksums, "shards": shards})
        self.backend.drop_records(name)
        self._features.pop(name, None)  # it has the old manifest

    def drop(self, name: str, shards: set[int] | None) -> None:
        """Drop ``shards`` of a feature, so that they are written again; None drops the whole feature."""
        self._features.pop(name, None)
        if shards is None:
            with self.backend.change() as change:
                change.remove(name)
            self.backend.drop_records(name)
            return
        manifest = self.backend.manifest(name)
        for number in shards:
            self.backend.drop_record(name, number)
        if manifest is not None:
            left = {k: record for k, record in manifest["shards"].items() if int(k) not in shards}
            with self.backend.change() as change:
                change.manifest(name, {**manifest, "shards": left})

    def _written(self, name: str, manifest: Tree | None) -> dict[int, Record]:
        committed = manifest["shards"] if manifest else {}
        return {**{int(number): record for number, record in committed.items()}, **self.backend.records(name)}

    def _missing(self, records: dict[int, Record]) -> list[int]:
        return [number for number in range(self.index.shards) if number not in records]

    @property
    def index(self) -> Index:
        """The rows of the table by name."""
        if self._index is None:
            self._index = Index(self.backend)
        return self._index

    def feature(self, name: str) -> PlannedFeature:
        """Return a feature without its frames."""
        if name not in self._features:
            self._features[name] = PlannedFeature(self.backend, name, self.index)
        return self._features[name]
