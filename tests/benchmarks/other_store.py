"""The models of a run on another copy of its store: what the data type costs, without the chance of training again.

python tests/benchmarks/other_store.py runs/emotale/whisper-base/attention/exp_1 stores/int8.zarr

Prints the CCC of the run's test predictions, from its own store and from the other one.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from cyclopts import App

import featurestore
from featurestore.command import run, say
from featurestore.config import load
from train.config import TrainConfig
from train.examples import load_examples
from train.layers import LayerSum
from train.loop import predict
from train.metrics import ccc_of, concordance_sums
from train.model import Model, PitchNorm

app = App(name="other_store", help=__doc__)


@app.default
def main(folder: Path, store: str) -> None:
    """Predict again.

    Args:
        folder: of a run.
        store: with the same utterances.
    """
    config = load(TrainConfig, [folder / "config.yaml"], [])
    torch.set_num_threads(config.threads or torch.get_num_threads())
    examples = load_examples(featurestore.open(store), config)
    folds = config.splits.folds(examples.table)
    models = []
    for state in torch.load(folder / "best_model.pth", weights_only=True)["folds"]:
        layers = LayerSum(state["layers.mean"], state["layers.sd"])
        models.append(Model(config, layers, PitchNorm(0.0, 1.0), examples.outputs))
        models[-1].load_state_dict(state)
    rows = [examples.rows(fold.test) for fold in folds]
    again = predict(models, examples, rows, config.optim.batch_size)
    names = [name for fold in folds for name in fold.test]
    table = pd.read_csv(folder / "predictions.csv", dtype={"name": str}).set_index("name").loc[names]
    own, other = [], []
    for column, target in enumerate(config.targets):
        low, high = examples.ranges[target]
        found = low + (high - low) * torch.cat(again)[:, column].double().numpy()
        true, before = table[target].to_numpy(), table[f"{target}_model"].to_numpy()
        own.append(ccc(true, before))
        other.append(ccc(true, found))
        change = np.abs(found - before).max()
        say(f"{target}: {own[-1]:+.4f}, from {store} {other[-1]:+.4f}, largest change {change:.3f}")
    say(f"mean: {np.mean(own):+.4f}, from {store} {np.mean(other):+.4f}, {np.mean(other) - np.mean(own):+.5f}")


def ccc(true: np.ndarray, predicted: np.ndarray) -> float:
    return float(ccc_of(concordance_sums(true, predicted, np.zeros(len(true), int)).sum(axis=0)))


if __name__ == "__main__":
    run(app)
