"""A small store of every dtype, and the values that were put into it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from featurestore.plan import FeaturePlan, FeatureSpec, Plan
from featurestore.writer import StoreWriter

LAYERS, DIM, HOP = 3, 8, 0.02
DTYPES = ("float32", "float16", "int8")


@dataclass
class Written:
    """A store, and what was put into it."""

    path: Path
    values: dict[str, np.ndarray]
    plan: Plan
    frames: np.ndarray


def make_plan(utterances: int = 12) -> tuple[Plan, np.ndarray]:
    rng = np.random.default_rng(0)
    duration = rng.uniform(0.3, 2.0, utterances)
    labels = {"speaker": [f"spk {i % 3} é" for i in range(utterances)], "V": rng.uniform(1, 5, utterances)}
    names = pd.Index([f"utt_{i}" for i in range(utterances)], name="name")
    table = pd.DataFrame({**labels, "duration": duration}, index=names)
    plan = Plan.make(table, 5.0, dataset="toy", ranges={"V": (1.0, 5.0)}, left_out={"gone": "no audio file gone.wav"})
    return plan, (duration / HOP).astype(np.int64)


def values_of(name: str, frames: int) -> np.ndarray:
    rng = np.random.default_rng(sum(map(ord, name)))
    return (rng.normal(size=(LAYERS, frames, DIM)) * np.logspace(-1, 2, DIM)).astype(np.float32)


def write(path: Path, dtypes: tuple[str, ...] = DTYPES) -> Written:
    """Write the store, or what is missing of it; ``utt_7`` fails."""
    plan, frames = make_plan()
    values = {name: values_of(name, count) for name, count in zip(plan.table.index, frames, strict=True)}
    provenance = {"settings": {"trim": False}, "weights": "ab12"}
    writer = StoreWriter(path)
    with writer.lock():
        writer.plan(plan)
        for dtype in dtypes:
            spec = FeatureSpec(layers=LAYERS, dim=DIM, hop=HOP, dtype=dtype, provenance=provenance)
            writer.plan_feature(dtype, FeaturePlan(spec, frames, np.full(len(frames), 0.0125)))
            for number in writer.pending(dtype):
                with writer.shard(dtype, number) as shard:
                    for name in reversed(shard.names):  # in whatever order
                        if name == "utt_7":
                            shard.fail(name, "3 of 100 samples are NaN or infinite")
                        else:
                            shard.add(name, values[name])
            writer.commit(dtype)
    return Written(path, values, plan, frames)


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    return write(tmp_path_factory.mktemp("stores") / "toy.zarr")


@pytest.fixture
def fresh(tmp_path: Path) -> Written:
    """A store of one feature that a test may damage."""
    return write(tmp_path / "fresh.zarr", ("int8",))
