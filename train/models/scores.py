"""The score that selects, on dev."""

from __future__ import annotations

import numpy as np
import torch

from featurestore.format.plan import Ints
from train.examples.examples import Examples


def selection_score(examples: Examples, rows: Ints, outputs: dict[str, torch.Tensor]) -> float:
    """Return the mean over the targets of their metrics, each over the rows that have a label.

    Args:
        examples: the data.
        rows: that were predicted.
        outputs: for them, of each task.
    """
    everyone, found = np.zeros(len(rows), np.int64), []
    for task, goal in examples.goals.items():
        targets = examples.targets[task][torch.from_numpy(rows)]
        figures = goal.figures(targets, goal.represent(outputs[task]), everyone)
        found += [float(metric(sums[0])) for sums, metric in figures.values()]
    return float(np.mean(found))
