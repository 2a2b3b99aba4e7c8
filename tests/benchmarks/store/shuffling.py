"""What a shuffle of a few shards at a time changes, in speed and in randomness."""

from __future__ import annotations

import shutil
import statistics

import numpy as np
from cold import cold_rounds, cold_speed
from measure import alone
from report import Figure
from states import HOP, SHARD_SECONDS, Data, draw_lengths, make_store
from warm import measure_warm
from ways import SHUFFLES, SMALL_STORE

from featurestore.access.batch_order import batch_order
from featurestore.format.plan import Ints, assign_shards

PART = "shard-local shuffle"
SMALL_SHARDS = 64
"""Shards of the store that is read; a window of the shuffle has 8."""


def shuffles(data: Data, rounds: int, seconds: float, utterances: int) -> list[Figure]:
    """Measure batches of the two shuffles on a store with many small shards, and how random they are.

    Args:
        data: that is read.
        rounds: of measurements.
        seconds: of a warm pass, about.
        utterances: of the store whose order is looked at; it need not be there.
    """
    path, figures = data.folder / f"{SMALL_STORE}.zarr", []
    alone(make_store, data, path, "float16", sum(data.frames) * HOP / SMALL_SHARDS)
    for name in SHUFFLES:
        found = alone(measure_warm, name, data, [None], rounds, seconds)[None]
        speed = statistics.median(found["speeds"]) / 1e6
        figures.append(Figure(PART, f"{name}, warm", speed, "MB/s", "ours", found["ratio"], raw=found))
    for name, passes in cold_rounds(list(SHUFFLES), data, None, rounds).items():
        speed = cold_speed(passes) / 1e6
        figures.append(Figure(PART, f"{name}, cold", speed, "MB/s", "ours", raw={"passes": passes}))
    shutil.rmtree(path)
    lengths = draw_lengths(utterances)
    shards = assign_shards([lengths * HOP], [SHARD_SECONDS])
    for name, groups in (("all", None), ("shards", shards)):
        for what, value in randomness(lengths, shards, groups).items():
            label = f"shuffle={name}, {utterances} utterances, {shards[-1] + 1} shards: {what}"
            figures.append(Figure(PART, label, value, "", "ours"))
    return figures


def randomness(lengths: Ints, shards: Ints, groups: Ints | None, seeds: int = 5) -> dict[str, float]:
    """Return how random the order of the batches is, on average over some seeds."""
    found = []
    for seed in range(seeds):
        order = batch_order(lengths, utterances=32, seed=seed, groups=groups)
        places = np.argsort(np.concatenate(order))  # by row, where in the order it comes
        rows = np.arange(len(places))
        correlation = abs(np.corrcoef(places, rows)[0, 1])  # both are ranks
        apart = np.abs(np.diff(places)).mean() / (len(places) / 3)
        found.append((correlation, apart, np.mean([len(np.unique(shards[batch])) for batch in order])))
    names = ("|rank correlation| with the table", "distance of neighbours, 1 at random", "shards in a batch of 32")
    return dict(zip(names, np.mean(found, axis=0).tolist(), strict=True))
