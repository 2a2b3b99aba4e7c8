"""The models of a run on another copy of its store: what the data type costs, without the chance of training again.

python tests/benchmarks/other_store.py runs/emotale/whisper-base/attention/exp_1 stores/int8.zarr

Prints the CCC of the run's test predictions, from its own store and from the other one.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from cyclopts import App

from featurestore.shared.command import run, say
from train.numerics.metrics import ccc
from train.running.opened import Run
from train.tasks.regression import RegressionGoal

app = App(name="other_store", help=__doc__)


@app.default
def main(folder: Path, store: str) -> None:
    """Predict again.

    Args:
        folder: of a run.
        store: with the same utterances.
    """
    opened = Run.open(folder)
    table = pd.read_csv(folder / "predictions.csv", dtype={"name": str}).set_index("name")
    again = opened.predict(store, list(table.index))
    goals = [goal for goal in opened.folder.goals.values() if isinstance(goal, RegressionGoal)]
    own, other = [], []
    for target in (target for goal in goals for target in goal.ranges):
        true, before, found = (
            frame[column] for frame, column in ((table, target), (table, f"{target}_model"), (again, f"{target}_model"))
        )
        own.append(ccc(true, before))
        other.append(ccc(true, found))
        change = np.abs(found - before).max()
        say(f"{target}: {own[-1]:+.4f}, from {store} {other[-1]:+.4f}, largest change {change:.3f}")
    say(f"mean: {np.mean(own):+.4f}, from {store} {np.mean(other):+.4f}, {np.mean(other) - np.mean(own):+.5f}")


if __name__ == "__main__":
    run(app)
