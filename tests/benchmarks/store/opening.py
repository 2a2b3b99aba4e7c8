"""A store with very many utterances: opening it, the cost of each read, its memory; the widths are small."""

from __future__ import annotations

import statistics
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from measure import alone, drop, memory_bytes, peak_bytes, seconds_of
from report import Check, Figure
from states import HOP, MEAN_SECONDS, SHARD_SECONDS

import featurestore
from featurestore.access.store import Store
from featurestore.access.writer import StoreWriter
from featurestore.format.plan import FeaturePlan, FeatureSpec, Plan
from featurestore.operations.verify import verify

FRAMES, DIM, FEATURE = 16, 4, "small"
IN_SHARD = round(SHARD_SECONDS / MEAN_SECONDS)
"""Utterances in a shard, as in a store of a large encoder: so there are thousands of shards."""
OPEN_SHARDS = 200
PASSES = 5
Found = dict[str, float]


def opening(folder: Path, utterances: int, rounds: int) -> list[Figure]:
    """Write both forms of the store, each step in its own process, and measure how they open and read."""
    figures = []
    for form, suffix in (("Zarr", ".zarr"), ("HDF5", ".h5")):
        path = folder / f"many{suffix}"
        for step in STEPS.values():
            alone(step, folder / f"one{suffix}", 8)  # a store to warm up with
        steps = {name: alone(measure_step, name, path, utterances) for name in STEPS}
        cold, warm = ([alone(measure_open, path, dropped) for _ in range(rounds)] for dropped in (True, False))
        figures += _open_figures(f"{form}, {utterances} utterances", cold, warm)
        figures += _read_figures(form, [alone(measure_reads, path, OPEN_SHARDS), alone(measure_reads, path, None)])
        figures += _memory_figures(form, alone(measure_index, path), steps)
    return figures


def _plan(path: Path, utterances: int) -> None:
    names = [f"Ses{row // 1000:03d}_utterance_{row:06d}" for row in range(utterances)]
    table = pd.DataFrame({"duration": np.full(utterances, FRAMES * HOP)}, index=pd.Index(names, name="name"))
    table["speaker"] = [f"speaker_{row // 1000}" for row in range(utterances)]
    frames = np.full(utterances, FRAMES)
    writer = StoreWriter(path)
    with writer.lock():
        writer.plan(Plan.make(table, IN_SHARD * FRAMES * HOP * 1.0001, dataset="many"))
        spec = FeatureSpec(layers=1, dim=DIM, hop=HOP, dtype="float16")
        writer.plan_feature(FEATURE, FeaturePlan(spec, frames, np.full(utterances, 0.0125)))


def _write(path: Path, utterances: int) -> None:
    frames = np.random.default_rng(0).normal(size=(1, FRAMES, DIM)).astype(np.float32)
    writer = StoreWriter(path)
    with writer.lock():
        for number in writer.pending(FEATURE):
            with writer.shard(FEATURE, number) as shard:
                for name in shard.names:
                    shard.add(name, frames)
        writer.commit(FEATURE)


def _open(path: Path, utterances: int) -> None:
    store = featurestore.open(path)
    store.feature(FEATURE).read(store.index.names[utterances // 2])


def _verify(path: Path, utterances: int) -> None:
    damage = verify(Store(path))
    if damage:
        raise RuntimeError(f"the store of {utterances} utterances is damaged: {damage[0]}")


STEPS: dict[str, Callable[[Path, int], None]] = {
    "planning": _plan,
    "writing": _write,
    "opening and reading one": _open,
    "verifying": _verify,
}


def measure_step(name: str, path: Path, utterances: int) -> Found:
    """Return the seconds of a step, and the most memory of the process, before it and with it."""
    before = peak_bytes()
    seconds = seconds_of(lambda: STEPS[name](path, utterances))
    return {"seconds": seconds, "before": before, "peak": peak_bytes()}


def _warm_up(path: Path) -> None:
    """Do once what imports modules."""
    other = featurestore.open(path.with_name(f"one{path.suffix}"))
    other.feature(FEATURE).read(other.index.names[0])


def measure_open(path: Path, dropped: bool) -> Found:
    """Return the seconds of featurestore.open, of making the index, and of the first read."""
    _warm_up(path)
    names = featurestore.open(path).index.names
    name = names[len(names) // 2]
    share = drop(path) if dropped else 1.0
    start = time.perf_counter()
    store = featurestore.open(path)
    opened = time.perf_counter()
    store.index[name]
    indexed = time.perf_counter()
    store.feature(FEATURE).read(name)
    end = time.perf_counter()
    found = {"open": opened - start, "index": indexed - opened, "first_read": end - indexed}
    return {**found, "total": end - start, "resident_before": share}


def measure_reads(path: Path, shards: int | None) -> Found:
    """Return the microseconds of a read where all shards, or so many, are read from in random order."""
    store = featurestore.open(path)
    part, names = store.feature(FEATURE), store.index.names
    rng = np.random.default_rng(0)
    chosen = [
        names[row] for row in rng.permutation(len(names) if shards is None else min(len(names), shards * IN_SHARD))
    ]

    def read() -> None:
        for name in chosen:
            part.read(name)

    first = seconds_of(read)
    later = [seconds_of(read) for _ in range(PASSES)]
    each = 1e6 / len(chosen)
    return {"first": first * each, "later": statistics.median(later) * each, "utterances": len(chosen)}


def measure_index(path: Path) -> Found:
    """Return the memory that the index and the places of one feature take, by tracemalloc and by the process's size."""
    _warm_up(path)
    before = memory_bytes()
    kept = _opened(path)
    grown = memory_bytes() - before
    del kept
    tracemalloc.start()
    kept = _opened(path)
    traced, peak = tracemalloc.get_traced_memory()
    return {"traced": traced, "traced_peak": peak, "grown": grown, "utterances": len(kept.index.names)}


def _opened(path: Path) -> Store:
    store = featurestore.open(path)
    store.feature(FEATURE).read(store.index.names[0])
    return store


def _open_figures(label: str, cold: list[Found], warm: list[Found]) -> list[Figure]:
    figures = []
    for state, found in (("cold", cold), ("warm", warm)):
        total, opened = (statistics.median(one[key] for one in found) for key in ("total", "open"))
        index, first = (statistics.median(one[key] for one in found) for key in ("index", "first_read"))
        unit = f"ms (open {1e3 * opened:.1f}, index {1e3 * index:.0f}, first read {1e3 * first:.0f})"
        checks = [Check("seconds", total, most=0.1)] if state == "cold" else []
        raw: dict[str, Any] = {"passes": found}
        figures.append(Figure(PART, f"{label}: open and read one, {state}", 1e3 * total, unit, checks=checks, raw=raw))
    return figures


def _read_figures(form: str, found: list[Found]) -> list[Figure]:
    figures = []
    for one, label in zip(found, (f"{OPEN_SHARDS} shards", "all shards"), strict=True):
        name = f"{form}, a read of {FRAMES} frames x {DIM}, in random order from {label}"
        checks = [Check("microseconds", one["later"], most=12)]
        unit = f"microseconds (first time {one['first']:.0f})"
        figures.append(Figure(PART, name, one["later"], unit, checks=checks, raw={**one}))
    return figures


def _memory_figures(form: str, index: Found, steps: dict[str, Found]) -> list[Figure]:
    unit = (
        f"MB, by tracemalloc (the process grows by {index['grown'] / 1e6:.0f}, peak {index['traced_peak'] / 1e6:.0f})"
    )
    checks = [Check("MB", index["traced"] / 1e6, most=60)]
    figures = [Figure(PART, f"{form}, memory of the index", index["traced"] / 1e6, unit, checks=checks, raw={**index})]
    for name, found in steps.items():
        unit = f"MB peak, {found['before'] / 1e6:.0f} of it before; {found['seconds']:.2f} s"
        figures.append(Figure(PART, f"{form}, {name}", found["peak"] / 1e6, unit, raw={**found}))
    return figures


PART = "a store of very many utterances"
