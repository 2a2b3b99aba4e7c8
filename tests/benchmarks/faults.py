"""What each fault of a protocol adds to the figures: the same models, the same utterances, one thing wrong at a time.

python tests/benchmarks/faults.py --store stores/emotale.zarr --folder runs/faults splits.k=6 fusion=none

All train on everything that is not tested, and test every utterance once. Without a fault dev selects the epoch, and
the model is trained again on train and dev. Differences are paired by utterance; intervals resample speakers, over the
mean of the seeds' figures. Runs that lie in the folder are not trained again.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
from cyclopts import App, Parameter

import featurestore
from featurestore.access.store import Store
from featurestore.shared.command import run, say, say_table
from featurestore.shared.config import load
from train.comparison.table_figures import Resampled, table_figures
from train.config import TrainConfig
from train.numerics.metrics import interval
from train.running.run import run as train

app = App(name="faults", help=__doc__)
FAULTS = {
    "none": ["optim.refit=true"],
    "utterances divided at random": [
        "optim.refit=true",
        "splits={{name: random, k: {folds}}}",
        "unsafe.random_splits=true",
    ],
    "best epoch on test": ["optim.refit=false", "unsafe.select_on_test=true"],
    "test trains, too": ["optim.refit=true", "unsafe.train_on_test=true"],
    "statistics of all parts": ["optim.refit=true", "unsafe.statistics_of_all=true"],
}


@app.default
def main(
    *overrides: Annotated[str, Parameter(allow_leading_hyphen=False)],
    store: Path,
    folder: Path,
    seeds: int = 3,
    config: tuple[Path, ...] = (),
) -> None:
    """Train what is missing, and print the table.

    Args:
        overrides: settings of all runs, as KEY=VALUE.
        store: whose labels are to be predicted.
        folder: for the runs.
        seeds: runs of each kind.
        config: YAML file with settings of all runs.
    """
    opened = featurestore.open(store)
    found: dict[str, dict[str, Resampled]] = {}
    folds = 0
    for number, (fault, words) in enumerate(FAULTS.items()):
        runs = []
        for seed in range(seeds):
            asked = [word.format(folds=folds) for word in words]
            settings = [*overrides, *asked, f"seed={seed}", f"runs={folder / f'{number}_{seed}'}", "baseline=false"]
            runs.append(_trained(opened, load(TrainConfig, config, settings)))
        figures = [table_figures(*one) for one in runs]
        folds = int(runs[0][0]["fold"].nunique())
        found[fault] = {target: _mean([one[target] for one in figures]) for target in figures[0]}
    targets = list(found["none"])
    rows = [
        (fault, *(cell(one[target]) for target in targets), *_added(one, found["none"])) for fault, one in found.items()
    ]
    say_table(("fault", *targets, *(f"{target}, added" for target in targets)), rows)


def _added(figures: dict[str, Resampled], honest: dict[str, Resampled]) -> list[str]:
    """Return by how much figures are above the honest ones, paired; nothing for these themselves."""
    if figures is honest:
        return [""] * len(honest)
    return [cell((figures[target][0] - own[0], figures[target][1] - own[1])) for target, own in honest.items()]


def cell(figure: Resampled) -> str:
    """Return a figure with its 95 % interval."""
    found = interval(*figure)
    return f"{found['value']:+.3f} [{found['low']:+.3f}, {found['high']:+.3f}]"


def _mean(figures: list[Resampled]) -> Resampled:
    values, resampled = zip(*figures, strict=True)
    return float(np.mean(values)), np.mean(resampled, axis=0)


def _trained(store: Store, config: TrainConfig) -> tuple[pd.DataFrame, dict[str, str]]:
    """Return what a run predicts, and the metric of each target."""
    there = list(config.runs.glob("*/*/*/*/metrics.json"))
    folder = there[0].parent if there else train(store, config, lambda _: None)[0]
    say(f"run: {folder}")
    table = pd.read_csv(folder / "predictions.csv", dtype={"name": str, "speaker": str}, index_col="name")
    metrics = json.loads((folder / "metrics.json").read_bytes())["metrics"]
    return table, metrics


if __name__ == "__main__":
    run(app)
