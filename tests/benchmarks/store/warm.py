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
    BATCHES_DIRECT,
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
COLD_ONLY = (BATCHES_DIRECT, *SHUFFLES)
WARM = [name for name, way in WAYS.items() if name not in (MEMMAP, *COLD_ONLY) and not isinstance(way, Direct)]
LAYERS_READ = {None: "all layers", LAYER: "one layer"}
Found = dict[str, Any]
LEAST = 16
"""Utterances of a pass; of a way that stores fewer, one."""
NOT_WARM = 0.01
"""The share that comes from the disk from which on a measurement says so."""
MOST_SPEED = 10e9
"""Bytes that are asked for in a second: views take no time, but np.memmap does."""


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
    stored = way.rows(data)
    most = round(seconds * MOST_SPEED * len(stored) / data.bytes_of(stored, layer))
    own_rows = stored if way.once else _enough(read, stored, layer, seconds, most)
    base_rows = stored if way.once else list(islice(cycle(stored), max(LEAST, most // 2)))
    base(base_rows, layer)  # what is opened and mapped once
    read(own_rows, layer)
    before = disk_bytes()
    taken = take_turns({"base": lambda: base(base_rows, layer), "own": lambda: read(own_rows, layer)}, rounds)
    speeds = {
        "base": [data.bytes_of(base_rows, layer) / one for one in taken["base"]],
        "own": [data.bytes_of(own_rows, layer) / one for one in taken["own"]],
    }
    return {
        "reads": len(own_rows),
        "utterances": len(set(own_rows)),
        "bytes": data.bytes_of(own_rows, layer),
        "speeds": speeds["own"],
        "memmap_speeds": speeds["base"],
        "ratio": ratio_of(speeds["own"], speeds["base"]),
        "bytes_from_disk": disk_bytes() - before,
    }


def _enough(read: Read, stored: list[int], layer: int | None, seconds: float, most: int) -> list[int]:
    """Return the utterances of a pass: as many as take ``seconds``, some repeatedly, or just a few of a slow way."""
    few = stored[: 1 if len(stored) < LEAST else LEAST]
    read(few, layer)
    each = seconds_of(lambda: read(few, layer)) / len(few)
    return list(islice(cycle(stored), max(len(few), min(most, round(seconds / each)))))


def _warm_figures(layer: int | None, results: dict[str, Found]) -> list[Figure]:
    part = f"warm, {LAYERS_READ[layer]}"
    ratios = {name: found["ratio"] for name, found in results.items() if "ratio" in found}
    bases = [statistics.median(found["memmap_speeds"]) for found in results.values() if "ratio" in found]
    figures = [Figure(part, MEMMAP, statistics.median(bases) / 1e9, "GB/s", "raw", 1.0)]
    for name, found in results.items():
        group = WAYS[name].group
        if name not in ratios:
            figures.append(Figure(part, name, None, f"{found['absent']} is not installed", group))
            continue
        speed = statistics.median(found["speeds"]) / 1e9
        from_disk = found["bytes_from_disk"] / (found["bytes"] * len(found["speeds"]))
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
