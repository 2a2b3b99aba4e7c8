"""Reading shuffled utterances from the page cache, all layers and one."""

from __future__ import annotations

import shutil
import statistics
from collections.abc import Sequence
from importlib.util import find_spec
from itertools import cycle, islice
from typing import Any

from measure import alone, disk_bytes, fill, ratio_of, seconds_of, sync, take_turns, use_one_core
from others import H5PY, OTHERS, ZARR_ON_OURS
from report import Check, Figure
from states import LAYER, Data
from ways import (
    BATCHES,
    BATCHES_HDF5,
    INTO,
    INTO_HDF5,
    MEMMAP,
    RAW_AND_OURS,
    SHUFFLES,
    VIEWS,
    VIEWS_HDF5,
    Direct,
    Read,
    Way,
)

WAYS: dict[str, Way] = {**RAW_AND_OURS, **OTHERS}
WARM = [name for name, way in WAYS.items() if name not in (MEMMAP, *SHUFFLES) and not isinstance(way, Direct)]
LAYERS_READ = {None: "all layers", LAYER: "one layer"}
Found = dict[str, Any]
LEAST = 16
"""Utterances of a pass; of a way that stores fewer, one."""
NOT_WARM = 0.01
"""The share that comes from the disk from which on a measurement says so."""
MOST_BYTES = 10e9
"""Asked for in a second."""


def missing(name: str) -> str | None:
    """Return the first module that a way needs and that is not installed."""
    return next((module for module in WAYS[name].needs if find_spec(module) is None), None)


def warm(data: Data, rounds: int, seconds: float) -> list[Figure]:
    """Measure every way beside np.memmap, in its own process; what it stores is removed again."""
    found: dict[int | None, dict[str, Found]] = {layer: {} for layer in LAYERS_READ}
    for name in WARM:
        absent = missing(name)
        folder = data.folder / "other"
        folder.mkdir()
        if absent is None and type(WAYS[name]).write is not Way.write:
            alone(write_way, name, data)
        results = {} if absent else alone(measure_warm, name, data, list(LAYERS_READ), rounds, seconds)
        for layer, one in found.items():
            one[name] = results.get(layer, {"absent": absent})
        shutil.rmtree(folder)
    return [figure for layer, one in found.items() for figure in _warm_figures(layer, one)]


def write_way(name: str, data: Data) -> None:
    """Store the utterances the way ``name``, and put them on the disk."""
    way = WAYS[name]
    way.write(data, data.folder / "other", way.rows(data))
    sync(data.folder / "other")


def measure_warm(
    name: str, data: Data, layers: Sequence[int | None], rounds: int, seconds: float
) -> dict[int | None, Found]:
    """Return, for all layers (None) or one, the seconds of ``name`` and of np.memmap, which take turns."""
    way = WAYS[name]
    if way.one_core:
        use_one_core()
    fill(data.raw, *way.places(data, data.folder / "other"))
    base, read = WAYS[MEMMAP].open(data, data.folder), way.open(data, data.folder / "other")
    return {layer: _compare(data, way, base, read, layer, rounds, seconds) for layer in layers}


def _compare(data: Data, way: Way, base: Read, read: Read, layer: int | None, rounds: int, seconds: float) -> Found:
    rows = _enough(read, way, data, layer, seconds)
    for begin in (base, read):  # what is opened and mapped once
        begin(rows, layer)
    before = disk_bytes()
    taken = take_turns({"base": lambda: base(rows, layer), "own": lambda: read(rows, layer)}, rounds)
    return {
        "reads": len(rows),
        "utterances": len(set(rows)),
        "bytes": data.bytes_of(rows, layer),
        "seconds": taken["own"],
        "memmap_seconds": taken["base"],
        "ratio": ratio_of(taken["base"], taken["own"]),
        "bytes_from_disk": disk_bytes() - before,
    }


def _enough(read: Read, way: Way, data: Data, layer: int | None, seconds: float) -> list[int]:
    """Return the utterances of a pass: as many as take ``seconds``, some repeatedly, or just a few of a slow way."""
    rows = way.rows(data)
    if way.once:
        return rows
    few = rows[: 1 if way.most and way.most < LEAST else LEAST]
    read(few, layer)
    each = seconds_of(lambda: read(few, layer)) / len(few)
    most = seconds * MOST_BYTES / (data.bytes_of(rows, layer) / len(rows))  # views take no time, np.memmap does
    return list(islice(cycle(rows), max(len(few), round(min(seconds / each, most)))))


def _warm_figures(layer: int | None, results: dict[str, Found]) -> list[Figure]:
    part = f"warm, {LAYERS_READ[layer]}"
    ratios = {name: found["ratio"] for name, found in results.items() if "ratio" in found}
    bases = [
        found["bytes"] / statistics.median(found["memmap_seconds"]) for found in results.values() if "ratio" in found
    ]
    figures = [Figure(part, MEMMAP, statistics.median(bases) / 1e9, "GB/s", "raw", 1.0)]
    for name, found in results.items():
        group = WAYS[name].group
        if name not in ratios:
            figures.append(Figure(part, name, None, f"{found['absent']} is not installed", group))
            continue
        speed = found["bytes"] / statistics.median(found["seconds"]) / 1e9
        from_disk = found["bytes_from_disk"] / (found["bytes"] * len(found["seconds"]))
        unit = "GB/s" if from_disk < NOT_WARM else f"GB/s, {from_disk:.0%} from the disk"
        checks = _warm_checks(name, layer, ratios)
        figures.append(Figure(part, name, speed, unit, group, ratios[name], checks, found))
    return figures


def _warm_checks(name: str, layer: int | None, ratios: dict[str, float]) -> list[Check]:
    least = 0.95 if layer is None else 0.9
    own = ratios[name]
    if name in (VIEWS, VIEWS_HDF5):
        return [Check("no copy: x memmap", own, least=20)] if layer is None else []
    if name == ZARR_ON_OURS:
        return [Check("ours (batches) x this", ratios[BATCHES] / own, least=50)]
    if name == H5PY:
        return [Check("ours (batches) x this", ratios[BATCHES] / own, least=1.2 if layer is None else 4.0)]
    if name in (BATCHES_HDF5, INTO_HDF5):
        zarr = BATCHES if name == BATCHES_HDF5 else INTO
        return [Check("x the Zarr form", own / ratios[zarr], least=0.8)]
    return [Check("x memmap", own, least=least)] if name in (BATCHES, INTO) else []
