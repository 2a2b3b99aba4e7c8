"""The trainer as it was at the commit that is first on the path: python before.py STORE FUSION"""

from __future__ import annotations

import math
import sys

import torch
from laps import Laps
from train.loop import fit
from train.memory import keep_freed_memory
from train.run import _variant

import featurestore
from featurestore.shared.config import load
from train.config import TrainConfig
from train.examples import load_examples


def main(store: str, fusion: str) -> None:
    torch.set_num_threads(1)
    keep_freed_memory()
    config = load(TrainConfig, [], [f"fusion={fusion}"])
    examples = load_examples(featurestore.open(store), config)
    variant = _variant(config, examples, examples.names, [], config.optim.epochs)
    rows = [examples.store.index[name] for name in examples.names]
    frames, laps = int(examples.states.lengths[rows].sum()), Laps()
    fit([variant], examples, config.loss, config.optim, lambda *_: math.nan, config.seed, lambda *_: laps(frames))


main(*sys.argv[1:])
