"""From predictions on the test parts to figures with intervals, against the baseline and fold by fold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from train.examples import Examples
from train.metrics import Floats, Groups, interval, resample_weights
from train.splits import Fold
from train.tasks import Goal

Figure = dict[str, Any]
MEMBER_DRAWS = 200
"""Ways of drawing members that the resamples share."""


@dataclass(frozen=True)
class System:
    """What a system predicts for the test part of each fold.

    Attributes:
        outputs: by task, for each fold, as `Goal.represent` gives it: (members, utterances, outputs).
    """

    outputs: dict[str, list[torch.Tensor]]


@dataclass(frozen=True)
class _Resampled:
    value: float
    resampled: Floats
    folds: list[float]
    members: list[float]

    def __sub__(self, other: _Resampled) -> _Resampled:
        folds = [a - b for a, b in zip(self.folds, other.folds, strict=True)]
        return _Resampled(self.value - other.value, self.resampled - other.resampled, folds, [])

    def figure(self) -> Figure:
        found = {**interval(self.value, self.resampled), "folds": self.folds}
        if len(self.members) > 1:
            found |= {"members": self.members, "members_sd": float(np.std(self.members))}
        return found


def compare(examples: Examples, folds: list[Fold], systems: dict[str, System]) -> dict[str, dict[str, Figure]]:
    """Return the figures of every system and of the differences to the first one.

    Args:
        examples: the data.
        folds: the divisions.
        systems: by name.

    Returns:
        For each system, and for ``FIRST - OTHER``, and for each target and their ``mean``: ``value``, ``low`` and
        ``high`` of the metric over the test parts of all folds together (95 % bootstrap interval, resampling speakers
        and members; paired in differences), ``folds``, the metric of each fold alone, and where there are several
        ``members``, the metric of each, and the deviation of these.
    """
    rows = [examples.rows(fold.test) for fold in folds]
    groups = speaker_numbers(examples.table.iloc[np.concatenate(rows)])
    weights = resample_weights(int(groups.max()) + 1)
    found: dict[str, dict[str, _Resampled]] = {}
    for name, system in systems.items():
        found[name] = {}
        for task, goal in examples.goals.items():
            targets = [examples.targets[task][torch.from_numpy(part)] for part in rows]
            found[name] |= _figures(goal, targets, system.outputs[task], groups, weights)
        if len(found[name]) > 1:
            found[name]["mean"] = _mean(list(found[name].values()))
    first, *others = found
    for other in others:
        found[f"{first} - {other}"] = {target: found[first][target] - found[other][target] for target in found[first]}
    return {name: {target: one.figure() for target, one in of.items()} for name, of in found.items()}


def speaker_numbers(table: pd.DataFrame) -> Groups:
    """Return the number of each utterance's speaker; each utterance its own where speakers are not known."""
    speakers = table["speaker"].astype(str) if "speaker" in table else pd.Series("", table.index)
    owners = [speaker or f"utterance {name}" for name, speaker in speakers.items()]
    return np.unique(owners, return_inverse=True)[1].astype(np.int64)


def predictions_table(examples: Examples, folds: dict[int, Fold], systems: dict[str, System]) -> pd.DataFrame:
    """Return true and predicted values by name, in the units of the dataset; folds go by the number that each has."""
    parts = []
    for place, (number, fold) in enumerate(folds.items()):
        part = pd.DataFrame({"fold": number}, index=pd.Index(fold.test, name="name"))
        if "speaker" in examples.table:
            part["speaker"] = examples.table["speaker"].loc[fold.test]
        for task, goal in examples.goals.items():
            truth = goal.truth(examples.table.loc[fold.test])
            for target in goal.metrics:
                part[target] = truth[target]
            for name, system in systems.items():
                for column, values in columns_of(goal, system.outputs[task][place], name).items():
                    part[column] = values
        parts.append(part)
    return pd.concat(parts)


def columns_of(goal: Goal, outputs: torch.Tensor, system: str) -> dict[str, Any]:
    """Return the columns of a task's predictions: ``TARGET_SYSTEM``, and the spread of several members.

    Args:
        goal: the task.
        outputs: as `Goal.represent` gives them, (members, utterances, outputs).
        system: its name.
    """
    columns = {f"{target}_{system}": values for target, values in goal.decode(outputs.mean(dim=0)).items()}
    return columns | (goal.spread(outputs) if len(outputs) > 1 else {})


def _figures(
    goal: Goal, targets: list[torch.Tensor], outputs: list[torch.Tensor], groups: Groups, weights: Floats
) -> dict[str, _Resampled]:
    together, true = torch.cat(outputs, dim=1), torch.cat(targets)
    draws = member_draws(len(together))
    drawn = [goal.figures(true, torch.tensordot(draw.to(together.dtype), together, dims=1), groups) for draw in draws]
    whole = goal.figures(true, together.mean(dim=0), groups)
    alone = [goal.figures(true, member, groups) for member in together]
    by_fold = [
        goal.figures(part, output.mean(dim=0), np.zeros(len(part), np.int64))
        for part, output in zip(targets, outputs, strict=True)
    ]
    found = {}
    for target, (sums, of) in whole.items():
        resampled = np.empty(len(weights))
        for number, figures in enumerate(drawn):
            mine = slice(number, None, len(draws))
            resampled[mine] = of(np.tensordot(weights[mine], figures[target][0], axes=1))
        folds, members = (
            [float(of(figures[target][0].sum(axis=0))) for figures in several] for several in (by_fold, alone)
        )
        found[target] = _Resampled(float(of(sums.sum(axis=0))), resampled, folds, members)
    return found


def member_draws(members: int, seed: int = 0) -> torch.Tensor:
    """Return shares of the members in bootstrap resamples of them, (draws, members)."""
    if members == 1:
        return torch.ones(1, 1)
    drawn: npt.NDArray[Any] = np.random.default_rng(seed).multinomial(members, [1 / members] * members, MEMBER_DRAWS)
    return torch.from_numpy(drawn / members)


def _mean(figures: list[_Resampled]) -> _Resampled:
    folds, members = (
        np.mean([getattr(figure, which) for figure in figures], axis=0).tolist() for which in ("folds", "members")
    )
    value = float(np.mean([figure.value for figure in figures]))
    return _Resampled(value, np.mean([figure.resampled for figure in figures], axis=0), folds, members)
