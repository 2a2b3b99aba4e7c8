"""A whole run of six folds: python folds.py STORE WORKERS FOLDER prints the seconds that it takes."""

from __future__ import annotations

import sys
import time

import featurestore
from featurestore.shared.config import load
from train.config import TrainConfig
from train.running.run import run

SETTINGS = ["fusion=attention", "baseline=false", "splits=kfold", "splits.k=6", "optim.epochs=20", "optim.patience=20"]
"""Long enough for what a process takes to start to be little of it, as it is in runs that are reported."""


def main(store: str, workers: str, folder: str) -> None:
    config = load(TrainConfig, [], [*SETTINGS, f"workers={workers}", f"runs={folder}"])
    start = time.perf_counter()
    run(featurestore.open(store), config, lambda line: None)
    print(time.perf_counter() - start)


if __name__ == "__main__":
    main(*sys.argv[1:])
