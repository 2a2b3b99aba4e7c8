"""Writing: our store against plain files with the same bytes; and the bytes of an hour of speech."""

from __future__ import annotations

import os
import shutil
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from measure import alone, bytes_below, seconds_of, sync
from report import Check, Figure
from states import FEATURE, HOP, RATE, SHARD_SECONDS, Data, fill_store, make_store, plan_store

import featurestore
from featurestore.access.feature_shard import FeatureShard
from featurestore.format.codec import Dtype, Floats, Frames, encode, pool

DTYPES: tuple[Dtype, ...] = ("float16", "int8")
MOST_GB = {"int8": 4.8, "float16": 9.2, "int4": 2.5}
SHARDS = 3
PLAIN = "plain files, fsync each"
WAYS = {
    PLAIN: ("", "plain"),
    "ours, Zarr, encoded frames": (".zarr", "put"),
    "ours, HDF5, encoded frames": (".h5", "put"),
    "ours, Zarr, float32": (".zarr", "add"),
    "ours, HDF5, float32": (".h5", "add"),
}


@dataclass(frozen=True)
class Encoded:
    """An utterance as it is given to the writer."""

    floats: Floats
    stored: Frames
    mean: Floats
    sd: Floats


def writing(data: Data, rounds: int) -> list[Figure]:
    """Measure each way to write some shards, in its own process, by turns."""
    figures = []
    for dtype in DTYPES:
        found: dict[str, list[tuple[float, int]]] = {name: [] for name in WAYS}
        for turn in range(rounds):
            for name in sorted(WAYS, reverse=bool(turn % 2)):
                found[name].append(alone(measure_write, name, data, dtype))
        figures += _write_figures(dtype, found)
    return figures


def measure_write(name: str, data: Data, dtype: Dtype) -> tuple[float, int]:
    """Return the seconds that writing takes until all is on the disk, and the bytes of the frames and scales."""
    form, how = WAYS[name]
    place = data.folder / f"written{form}"
    utterances = _encode_shard(data, dtype)
    if how == "plain":
        place.mkdir()
        seconds = seconds_of(lambda: [_write_plain(place / str(n), utterances) for n in range(SHARDS)])
    else:
        seconds = _write_store(place, utterances, dtype, PUT if how == "put" else ADD)
    if place.is_dir():
        shutil.rmtree(place)
    else:
        place.unlink()
    return seconds, SHARDS * sum(part.nbytes for one in utterances for part in _parts(one))


def _encode_shard(data: Data, dtype: Dtype) -> list[Encoded]:
    """Return the utterances of one shard, which is written several times under different names."""
    ends = np.cumsum(data.frames) / RATE
    count = max(1, int(np.searchsorted(ends, min(SHARD_SECONDS, ends[-1] / SHARDS), side="right")))
    floats = [data.values(row).astype(np.float32) for row in range(count)]
    return [Encoded(one, encode(one, dtype), *pool(one)) for one in floats]


def _parts(one: Encoded) -> list[np.ndarray]:
    parts = (one.stored.values, one.mean, one.sd, one.stored.scale, one.stored.offset)
    return [np.ascontiguousarray(part) for part in parts if part is not None]


def _write_plain(path: Path, utterances: Sequence[Encoded]) -> None:
    with open(path, "wb", buffering=0) as file:
        for one in utterances:
            for part in _parts(one):
                rest = memoryview(part).cast("B")
                while rest:
                    rest = rest[file.write(rest) :]
        os.fsync(file.fileno())


def _put(shard: FeatureShard, name: str, one: Encoded) -> None:
    shard.put(name, one.stored, one.mean, one.sd)


def _add(shard: FeatureShard, name: str, one: Encoded) -> None:
    shard.add(name, one.floats)


PUT, ADD = _put, _add


def _write_store(
    place: Path, utterances: Sequence[Encoded], dtype: Dtype, give: Callable[[FeatureShard, str, Encoded], None]
) -> float:
    """Return the seconds of writing the shards of a planned store, and of the commit."""
    by_name = {f"{n}_{row}": one for n in range(SHARDS) for row, one in enumerate(utterances)}
    frames = [one.floats.shape[1] for one in by_name.values()]
    seconds = sum(frames[: len(utterances)]) * HOP
    plan_store(place, list(by_name), frames, dtype, seconds * 1.0001)
    sync(place)
    return seconds_of(lambda: fill_store(place, lambda shard, name: give(shard, name, by_name[name])))


def _write_figures(dtype: Dtype, found: dict[str, list[tuple[float, int]]]) -> list[Figure]:
    part, figures = f"writing {dtype}", []
    speeds = {name: statistics.median(size / seconds for seconds, size in passes) for name, passes in found.items()}
    for name, passes in found.items():
        ratio = speeds[name] / speeds[PLAIN]
        checks = [] if name == PLAIN else [Check("x plain files", ratio, least=0.8)]
        group = "raw" if name == PLAIN else "ours"
        figures.append(Figure(part, name, speeds[name] / 1e6, "MB/s", group, ratio, checks, {"passes": passes}))
    return figures


def sizes(data: Data) -> list[Figure]:
    """Return the bytes per hour of the real files in three data types: frames, scales and pooled statistics."""
    hours = sum(data.frames) * HOP / 3600
    figures = []
    for dtype, most in MOST_GB.items():
        found = {key: size / 1e9 / hours for key, size in alone(measure_size, data, dtype).items()}
        total = sum(found.values())
        unit = "GB per hour: " + ", ".join(f"{key} {size:.2f}" for key, size in found.items())
        figures.append(Figure("size", dtype, total, unit, checks=[Check("GB", total, most=most)], raw=found))
    return figures


def measure_size(data: Data, dtype: Dtype) -> dict[str, int]:
    """Return the bytes of the files of a store; that of float16 is there already."""
    path = data.folder / ("store.zarr" if dtype == "float16" else f"{dtype}.zarr")
    if not path.exists():
        make_store(data, path, dtype)
    folder, part = path / "features" / FEATURE, featurestore.open(path).feature(FEATURE)
    arrays = {name: bytes_below(folder / name) for name in part.layouts}
    frames = sum(data.frames) * part.layouts["data"].row_bytes
    padding = arrays.pop("data") - frames
    scales, pooled = (sum(arrays.get(name, 0) for name in names) for names in (("scale", "offset"), ("mean", "sd")))
    rest = bytes_below(path) - frames - padding - scales - pooled
    if dtype != "float16":
        shutil.rmtree(path)
    return {"frames": frames, "padding": padding, "scales": scales, "pooled": pooled, "table": rest}
