"""Reading shuffled utterances from the disk, all layers and one."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence

import numpy as np
from measure import alone, disk_bytes, drop
from report import Check, Figure
from states import Data
from warm import LAYERS_READ, WAYS, Found
from ways import BATCHES, BATCHES_DIRECT, BATCHES_HDF5, DIRECT, MEMMAP, PREAD


def cold(data: Data, rounds: int) -> list[Figure]:
    """Measure ours, pread, np.memmap and O_DIRECT with the page cache dropped, each time in a fresh process."""
    figures = []
    for layer in LAYERS_READ:
        names = [MEMMAP, PREAD, DIRECT[layer], BATCHES, BATCHES_HDF5, BATCHES_DIRECT]
        figures += _cold_figures(layer, names, cold_rounds(names, data, layer, rounds))
    return figures


def cold_rounds(names: Sequence[str], data: Data, layer: int | None, rounds: int) -> dict[str, list[Found]]:
    """Return what `measure_cold` finds for each way, by turns."""
    found: dict[str, list[Found]] = {name: [] for name in names}
    for turn in range(rounds):
        for name in names[:: -1 if turn % 2 else 1]:
            found[name].append(alone(measure_cold, name, data, layer))
    return found


def measure_cold(name: str, data: Data, layer: int | None) -> Found:
    """Return the seconds of one pass over all utterances that begins with none of their bytes in memory."""
    way, asked = WAYS[name], data.bytes_of(data.order, layer)
    try:
        read = way.open(data, data.folder)
        share = drop(*way.places(data, data.folder))
        before, start = disk_bytes(), time.perf_counter()
        read(data.order, layer)
    except OSError as error:  # O_DIRECT is not for every file system
        return {"error": str(error)}
    seconds = time.perf_counter() - start
    amplification = (disk_bytes() - before) / asked
    return {"seconds": seconds, "bytes": asked, "amplification": amplification, "resident_before": share}


def _cold_figures(layer: int | None, names: Sequence[str], found: dict[str, list[Found]]) -> list[Figure]:
    part, figures = f"cold, {LAYERS_READ[layer]}", []
    speeds = {name: cold_speed(passes) for name, passes in found.items()}
    for name in names:
        passes = [one for one in found[name] if "seconds" in one]
        if not passes:
            figures.append(Figure(part, name, None, found[name][0]["error"], WAYS[name].group))
            continue
        amplification = statistics.median(one["amplification"] for one in passes)
        unit = f"MB/s, {amplification:.2f} x the bytes asked for"
        checks = _cold_checks(name, layer, speeds, amplification)
        ratio = speeds[name] / speeds[MEMMAP]
        raw = {"passes": found[name], "amplification": amplification}
        figures.append(Figure(part, name, speeds[name] / 1e6, unit, WAYS[name].group, ratio, checks, raw))
    return figures


def cold_speed(passes: list[Found]) -> float:
    """Return the bytes per second, NaN where none could be read."""
    return statistics.median([one["bytes"] / one["seconds"] for one in passes if "seconds" in one] or [np.nan])


def _cold_checks(name: str, layer: int | None, speeds: dict[str, float], amplification: float) -> list[Check]:
    own = speeds[name]
    if name == BATCHES_HDF5:
        return [Check("x the Zarr form", own / speeds[BATCHES], least=0.8)]
    if name != BATCHES_DIRECT:
        return []
    direct = own / speeds[DIRECT[layer]]
    if layer is None:
        return [Check("x O_DIRECT", direct, least=0.9), Check("x pread", own / speeds[PREAD], least=2.0)]
    return [Check("x O_DIRECT", direct, least=0.8), Check("bytes read", amplification, most=1.1)]
