"""A small dataset of nine utterances in three shards, which can be written as a store."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import featurestore
from featurestore.codec import Dtype
from featurestore.plan import FeaturePlan, FeatureSpec, Plan
from featurestore.writer import StoreWriter

LAYERS, DIM, HOP, FIRST, SHARD_SECONDS = 3, 4, 0.02, 0.0125, 1.5
FRAMES = {"a1": 20, "a2": 16, "a/3": 33, "ä 4": 1, "b1": 48, "b2": 15, "c1": 17, "c2": 40, "c3": 5}
FAILED = {"b2": "the encoder ran out of memory"}


collect_ignore = ["killed_writer.py"]  # a script


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
        self.plan = Plan.make(
            self.table,
            SHARD_SECONDS,
            dataset="toy",
            ranges={"V": (1.0, 5.0)},
            left_out={"d1": "no audio file d1.wav"},
        )
        self.failed = dict(FAILED)
        self.states = {
            name: rng.normal(rng.normal(0, 3, DIM), 1, (LAYERS, count, DIM)).astype(np.float32)
            for name, count in FRAMES.items()
        }
        self.pitch = {name: rng.uniform(75, 400, (1, n, 1)).astype(np.float32) for name, n in FRAMES.items()}

    @property
    def readable(self) -> list[str]:
        """The utterances that have states."""
        return [name for name in self.names if name not in self.failed]

    def feature_plan(self, feature: str = "states", dtype: Dtype = "int8", **settings: object) -> FeaturePlan:
        """Return the plan of a feature, with other ``settings`` where they are given."""
        layers, dim = (LAYERS, DIM) if feature == "states" else (1, 1)
        spec = FeatureSpec(**{"layers": layers, "dim": dim, "hop": HOP, "dtype": dtype, **settings})
        return FeaturePlan(spec, np.array(list(FRAMES.values())), np.full(len(FRAMES), FIRST))

    def write(
        self,
        path: Path,
        dtype: Dtype = "int8",
        shards: Sequence[int] = (0, 1, 2),
        features: Sequence[str] = ("states",),
    ) -> Path:
        """Write the ``shards`` that are not there yet; the features are complete when all of them are."""
        writer = StoreWriter(path)
        with writer.lock():
            writer.plan(self.plan)
            for feature in features:
                writer.plan_feature(feature, self.feature_plan(feature, dtype))
                values = getattr(self, feature)
                for number in set(writer.pending(feature)) & set(shards):
                    with writer.shard(feature, number) as shard:
                        for name in shard.names:
                            if feature == "states" and name in self.failed:
                                shard.fail(name, self.failed[name])
                            else:
                                shard.add(name, values[name])
                if not writer.pending(feature):
                    writer.commit(feature)
        return path


@pytest.fixture(scope="session")
def toy() -> Toy:
    return Toy()


@pytest.fixture(scope="session")
def written(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete store that no test may change."""
    return toy.write(tmp_path_factory.mktemp("written") / "toy.zarr")


@pytest.fixture
def copied(written: Path, tmp_path: Path) -> Path:
    """A complete store that the test may damage."""
    return Path(shutil.copytree(written, tmp_path / "toy.zarr"))


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """The environment in which another process imports the same featurestore."""
    return {**os.environ, "PYTHONPATH": str(Path(featurestore.__file__).parents[1])}


@pytest.fixture(scope="session")
def tree() -> Callable[[Path], dict[str, bytes]]:
    """The bytes of every file below a folder, by relative path; locks aside."""

    def read(folder: Path) -> dict[str, bytes]:
        files = (file for file in folder.rglob("*") if file.is_file() and file.suffix != ".lock")
        return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}

    return read
