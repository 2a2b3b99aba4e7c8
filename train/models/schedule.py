"""In which batches a model meets its training part, and how large its steps are."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from featurestore.format.plan import Ints
from train.config import OptimConfig
from train.models.model import Model

BUCKET_BATCHES = 16
"""Batches whose utterances are sorted by length together, so that a batch has little padding."""


def count_batches(utterances: int, size: int) -> int:
    """Return the number of batches of at most ``size`` utterances, or one more, none of which has only one.

    >>> count_batches(64, 32), count_batches(65, 32), count_batches(3, 2)
    (2, 3, 1)
    """
    return max(1, min(math.ceil(utterances / size), utterances // 2))


def epoch_order(rows: Ints, lengths: Ints, size: int, generator: np.random.Generator) -> list[Ints]:
    """Return the batches of an epoch: of sizes as even as can be, of similar lengths, in random order.

    Args:
        rows: that are trained on.
        lengths: frames of every row.
        size: most utterances in a batch.
        generator: of the order.
    """
    shuffled = generator.permutation(rows)
    count = count_batches(len(rows), size)
    ends = np.cumsum([len(part) for part in np.array_split(shuffled, count)])
    begins, batches = np.concatenate([[0], ends[:-1]]), []
    for first in range(0, count, BUCKET_BATCHES):
        last = min(first + BUCKET_BATCHES, count)
        bucket = shuffled[begins[first] : ends[last - 1]]
        bucket = bucket[np.argsort(lengths[bucket], kind="stable")]
        batches += np.split(bucket, ends[first : last - 1] - begins[first])
    return [batches[number] for number in generator.permutation(count)]


def learning_rate(step: int, rising: float, total: int, schedule: str = "cosine") -> float:
    """Return the learning rate of a step (from 0), as a share of its peak: a rise over the warm-up, then the schedule.

    >>> [learning_rate(step, 0, 4, "linear") for step in range(4)]
    [1.0, 0.75, 0.5, 0.25]
    """
    done = step / total
    left = {"cosine": 0.5 * (1 + math.cos(math.pi * done)), "linear": 1 - done, "constant": 1.0}[schedule]
    return min(1.0, (step + 1) / max(1.0, rising)) * left


def make_optimiser(model: Model, optim: OptimConfig) -> torch.optim.Optimizer:
    """Return the optimiser of all that is learned; the weights of layers have a learning rate of their own."""
    learned = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    layers = [parameter for name, parameter in learned.items() if name.endswith("layers.logits")]
    others = [parameter for name, parameter in learned.items() if not name.endswith("layers.logits")]
    groups: list[dict[str, Any]] = [{"params": others, "peak": optim.lr}]
    if layers:
        groups.append({"params": layers, "peak": optim.layer_lr, "weight_decay": 0.0})
    return torch.optim.AdamW(groups, betas=optim.betas, weight_decay=optim.weight_decay, fused=True)
