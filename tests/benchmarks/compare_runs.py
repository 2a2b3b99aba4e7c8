"""Runs side by side: the CCC of each, and its difference to the first, paired, with 95 % intervals over speakers.

python tests/benchmarks/compare_runs.py runs/emotale/whisper-base/attention/exp_1 runs/…/exp_2

With --seeds N the runs come in groups that differ in their seeds alone, N runs each, in the same order of seeds: the
mean of each group is compared, and intervals resample speakers and seeds.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from cyclopts import App

from featurestore.command import run, say_table
from featurestore.errors import SerError
from train.evaluate import speaker_numbers
from train.metrics import Floats, ccc_of, concordance_sums, interval, resample_weights

app = App(name="compare_runs", help=__doc__)


@app.default
def main(*runs: Path, seeds: int = 1) -> None:
    """Compare the predictions of some runs on the same utterances.

    Args:
        runs: Folders of runs; the first (group) is what the others are compared with.
        seeds: Runs in each group.
    """
    if len(runs) % seeds:
        raise SerError(f"found {len(runs)} runs, expected groups of {seeds}")
    tables = [pd.read_csv(folder / "predictions.csv", dtype={"name": str, "speaker": str}) for folder in runs]
    tables = [table.set_index("name").sort_index() for table in tables]
    targets = [column for column in tables[0] if f"{column}_model" in tables[0]]
    for folder, table in zip(runs, tables, strict=True):
        if not table.index.equals(tables[0].index) or not np.allclose(table[targets], tables[0][targets]):
            raise SerError(f"{folder} has other utterances or labels than {runs[0]}")
    groups = speaker_numbers(tables[0])
    weights = resample_weights(int(groups.max()) + 1)
    singles = np.stack([_figures(table, targets, groups, weights) for table in tables])
    figures = _mean_over_seeds(singles.reshape(-1, seeds, *singles.shape[1:]))
    first = runs[::seeds]
    rows = [(folder, "CCC", *map(_text, figure.T)) for folder, figure in zip(first, figures, strict=True)]
    rows += [
        (folder, "less the first", *map(_text, (figure - figures[0]).T))
        for folder, figure in zip(first, figures, strict=True)
    ][1:]
    say_table(("run", "", *targets, "mean"), rows)


def _figures(table: pd.DataFrame, targets: list[str], groups: np.ndarray, weights: Floats) -> Floats:
    """Return the CCC of each target and their mean, (1 + resamples, targets + 1), that of all speakers first."""
    columns = []
    for target in targets:
        true, predicted = table[target].to_numpy(), table[f"{target}_model"].to_numpy()
        sums = concordance_sums(true, predicted, groups, int(groups.max()) + 1)
        columns.append(np.append(ccc_of(sums.sum(axis=0)), ccc_of(np.tensordot(weights, sums, axes=1))))
    return np.stack([*columns, np.mean(columns, axis=0)], axis=1)


def _mean_over_seeds(figures: Floats) -> Floats:
    """Return the mean of (groups, seeds, 1 + resamples, columns) over seeds, in every resample of other ones."""
    _, seeds, resamples, _ = figures.shape
    drawn = np.random.default_rng(0).integers(seeds, size=(resamples, seeds))
    drawn[0] = np.arange(seeds)
    return np.stack([figures[:, seed, np.arange(resamples)] for seed in drawn.T]).mean(axis=0)


def _text(values: Floats) -> str:
    found = interval(values[0], values[1:])
    return f"{found['value']:+.3f} [{found['low']:+.3f}, {found['high']:+.3f}]"


if __name__ == "__main__":
    run(app)
