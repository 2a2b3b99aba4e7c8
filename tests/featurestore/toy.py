"""A small dataset of nine utterances in three shards, which can be written as a store with either backend."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import h5py
import numpy as np
import pandas as pd

from featurestore.access.store import Store
from featurestore.access.writer import StoreWriter
from featurestore.format.codec import Dtype
from featurestore.format.opening import open_backend_to_write
from featurestore.format.plan import FeaturePlan, FeatureSpec, Plan

LAYERS, DIM, HOP, FIRST, SHARD_SECONDS = 3, 5, 0.02, 0.0125, 1.5
FRAMES = {"a1": 20, "a2": 16, "a/3": 33, "ä 4": 1, "b1": 48, "b2": 15, "c1": 17, "c2": 40, "c3": 5}
SHARDS = {"a1": 0, "a2": 0, "a/3": 0, "ä 4": 0, "b1": 1, "b2": 1, "c1": 2, "c2": 2, "c3": 2}
FAILED = {"b2": "the encoder ran out of memory"}
DTYPES: tuple[Dtype, ...] = get_args(Dtype)
SUFFIXES = (".zarr", ".h5")
PROVENANCE = {"settings": {"trim": False}, "weights": "ab12"}


class Toy:
    """What is stored: labels, a feature ``states`` with three layers, a feature ``pitch`` with one."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.names = list(FRAMES)
        self.table = pd.DataFrame(
            {
                "speaker": [name[0] for name in self.names],
                "duration": [HOP * count for count in FRAMES.values()],
                "V": rng.uniform(1, 5, len(FRAMES)),
            },
            index=pd.Index(self.names, name="name"),
        )
        self.plan = self.plan_of(self.table)
        self.failed = dict(FAILED)
        self.states = {
            name: (rng.normal(rng.normal(0, 3, DIM), 1, (LAYERS, count, DIM)) * np.logspace(-1, 2, DIM)).astype("f4")
            for name, count in FRAMES.items()
        }
        self.pitch = {name: rng.uniform(75, 400, (1, n, 1)).astype(np.float32) for name, n in FRAMES.items()}

    @property
    def readable(self) -> list[str]:
        """The utterances that have states."""
        return [name for name in self.names if name not in self.failed]

    def plan_of(self, table: pd.DataFrame, **changes: object) -> Plan:
        """Return the plan of some utterances, with ``changes`` of the rest."""
        labels = {"dataset": "toy", "ranges": {"V": (1.0, 5.0)}, "left_out": {"d1": "no audio file d1.wav"}}
        return Plan.make(table, SHARD_SECONDS, **{**labels, **changes})

    def feature_plan(self, feature: str = "states", dtype: Dtype = "int8", **settings: object) -> FeaturePlan:
        """Return the plan of a feature, with other ``settings`` where they are given."""
        layers, dim = (1, 1) if feature == "pitch" else (LAYERS, DIM)
        dtype = "float32" if feature == "pitch" else dtype
        provenance = {"settings": {}} if feature == "pitch" else PROVENANCE
        known = {"layers": layers, "dim": dim, "hop": HOP, "dtype": dtype, "provenance": provenance}
        spec = FeatureSpec(**{**known, **settings})
        return FeaturePlan(spec, np.array(list(FRAMES.values())), np.full(len(FRAMES), FIRST))

    def write(
        self,
        path: Path,
        dtype: Dtype = "int8",
        shards: Sequence[int] = (0, 1, 2),
        features: Sequence[str] = ("states",),
        **settings: object,
    ) -> Path:
        """Write the ``shards`` that are not there yet; the features are complete when all of them are."""
        writer = StoreWriter(path)
        with writer.lock():
            writer.plan(self.plan)
            for feature in features:
                writer.plan_feature(feature, self.feature_plan(feature, dtype, **settings))
                self.fill(writer, feature, shards)
        return path

    def fill(self, writer: StoreWriter, feature: str, shards: Sequence[int] = (0, 1, 2)) -> None:
        """Write the shards of a feature that are missing, and commit it when none is."""
        for number in set(writer.pending(feature)) & set(shards):
            with writer.shard(feature, number) as shard:
                for name in reversed(shard.names):  # in whatever order
                    if feature != "pitch" and name in self.failed:
                        shard.fail(name, self.failed[name])
                    else:
                        shard.add(name, (self.pitch if feature == "pitch" else self.states)[name])
        if not writer.pending(feature):
            writer.commit(feature)


def main() -> None:
    """Write a whole store in a process of its own."""
    Toy().write(Path(sys.argv[1]), features=("states", "pitch"))


@dataclass(frozen=True)
class Place:
    """Where the bytes of a shard are."""

    file: Path
    begin: int
    size: int

    def read(self) -> bytes:
        return self.file.read_bytes()[self.begin : self.begin + self.size]

    def flip(self, where: int) -> None:
        """Flip a bit of one of its bytes."""
        content = bytearray(self.file.read_bytes())
        content[self.begin + where] ^= 1
        self.file.write_bytes(content)


def place_of(store: Store, feature: str, array: str, shard: int) -> Place:
    files, path, begin = store.backend.shard_file(feature, array, shard)
    size = store.parts[feature].records[shard]["files"][array]["bytes"]
    return Place(Path(files.place(path)), begin, size)


@contextmanager
def tampered(path: Path) -> Iterator[Any]:
    """Give out what changes the small parts of a store behind its back, and no checksum."""
    if path.is_dir():
        with open_backend_to_write(path).change() as change:
            yield change
    else:
        with h5py.File(path, "r+") as file:
            yield Tampered(file)


class Tampered:
    """The parts of an HDF5 file, by the names that `featurestore.format.zarr.Change` has for them."""

    def __init__(self, file: h5py.File) -> None:
        self._file = file

    def group(self, path: str, attributes: dict[str, Any]) -> None:
        self._replace(f"{path}/attributes", np.array(json.dumps(attributes).encode()))

    def array(self, path: str, values: np.ndarray, dimension: str) -> None:
        self._replace(path, values)

    def manifest(self, feature: str, manifest: dict[str, Any]) -> None:
        self._replace(f"features/{feature}/manifest", np.array(json.dumps(manifest).encode()))

    def _replace(self, path: str, values: np.ndarray) -> None:
        del self._file[path]
        self._file.create_dataset(path, data=values)
