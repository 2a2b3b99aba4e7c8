"""The trainer as it is: python ours.py STORE FUSION"""

from __future__ import annotations

import sys

import torch
from laps import Laps

import featurestore
from featurestore.shared.config import load
from train.config import TrainConfig
from train.examples.examples import load_examples
from train.models.training import Training
from train.running.memory import keep_freed_memory


def training_of(store: str, fusion: str) -> Training:
    """Return a model in training on all utterances of a store, with the defaults, in one thread."""
    torch.set_num_threads(1)
    keep_freed_memory()
    config = load(TrainConfig, [], [f"fusion={fusion}"])
    examples = load_examples(featurestore.open(store), config)
    return Training(examples, config, examples.names, [], config.optim.epochs, config.seed)


if __name__ == "__main__":
    training, laps = training_of(*sys.argv[1:]), Laps()
    while True:
        laps(int(training.epoch()["frames"]))
