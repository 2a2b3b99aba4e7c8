"""What systems predict for the test parts of all folds together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from train.examples.examples import Examples
from train.splits import Fold
from train.tasks import Goal


@dataclass(frozen=True)
class System:
    """What a system predicts for the test part of each fold.

    Attributes:
        outputs: by task, for each fold, as `Goal.represent` gives it: (members, utterances, outputs).
        probable: whether what it says of categories are probabilities, which can be compared with how often it is
            right; those of a ridge are scores.
    """

    outputs: dict[str, list[torch.Tensor]]
    probable: bool = True


@dataclass(frozen=True)
class Tested:
    """The test parts of all folds, one after another.

    Attributes:
        table: of the utterances.
        goals: the tasks, by name.
        targets: of each task.
        predicted: of each system and task, the mean over its members: (utterances, outputs).
        probable: the systems whose outputs for categories are probabilities.
    """

    table: pd.DataFrame
    goals: dict[str, Goal]
    targets: dict[str, torch.Tensor]
    predicted: dict[str, dict[str, torch.Tensor]]
    probable: set[str]

    @classmethod
    def of(cls, examples: Examples, folds: list[Fold], systems: dict[str, System]) -> Tested:
        """Return what some systems predict for some folds."""
        rows = np.concatenate([examples.rows(fold.test) for fold in folds])
        predicted = {
            name: {task: torch.cat(parts, dim=1).mean(dim=0) for task, parts in system.outputs.items()}
            for name, system in systems.items()
        }
        targets = {task: targets[torch.from_numpy(rows)] for task, targets in examples.targets.items()}
        probable = {name for name, system in systems.items() if system.probable}
        return cls(examples.table.iloc[rows], examples.goals, targets, predicted, probable)
