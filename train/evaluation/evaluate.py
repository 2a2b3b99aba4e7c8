"""From predictions on the test parts to figures with intervals, against the baseline, fold by fold and by group."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from train.evaluation.classes import class_figures
from train.evaluation.grouping import group_figures
from train.evaluation.tested import System, Tested
from train.examples.examples import Examples
from train.numerics.metrics import Floats, Groups, interval, plain, resample_weights
from train.reading.labels import speaker_numbers
from train.splits import Fold
from train.tasks import Goal

Figure = dict[str, Any]
MEMBER_DRAWS = 200
"""Ways of drawing members that the resamples share."""


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
        found: Figure = {**interval(self.value, self.resampled), "folds": [plain(fold) for fold in self.folds]}
        if len(self.members) > 1:
            found["members"] = [plain(member) for member in self.members]
            found["members_sd"] = plain(float(np.std(self.members)))
        return found


_ByTarget = dict[str, dict[str, _Resampled]]
"""For each target and metric."""


def evaluate(examples: Examples, folds: list[Fold], systems: dict[str, System]) -> dict[str, Any]:
    """Return the figures of every system and of the differences to the first one.

    Args:
        examples: the data.
        folds: the divisions.
        systems: by name.

    Returns:
        ``results``: for each system, and for ``FIRST - OTHER``, and for each target and their ``mean``: ``value``,
        ``low`` and ``high`` of the metric that selects (CCC or UAR) over the test parts of all folds together (95 %
        bootstrap interval, resampling speakers and members; paired in differences), ``folds``, the metric of each fold
        alone, and where there are several ``members``, the metric of each, and the deviation of these.
        ``figures``: for each system, difference and target the same of each metric by name: CCC, PCC, RMSE, MAE (these
        two in the units of the dataset) and R2 of numbers; UAR, accuracy, macro_F1, weighted_F1, and where the system
        gives probabilities ECE and overconfidence of categories. None where one is not defined.
        ``classes``: see `class_figures`. ``groups``: see `group_figures`.
    """
    found = _resampled(examples, folds, systems)
    selecting = {
        name: {target: metrics[examples.metrics[target]] for target, metrics in of.items()}
        for name, of in found.items()
    }
    results = {name: of | ({"mean": _mean(list(of.values()))} if len(of) > 1 else {}) for name, of in selecting.items()}
    tested = Tested.of(examples, folds, systems)
    return {
        "results": {name: _figures_of(of) for name, of in results.items()},
        "figures": {name: {target: _figures_of(of) for target, of in by.items()} for name, by in found.items()},
        "classes": class_figures(tested),
        "groups": group_figures(tested),
    }


def selecting_figures(examples: Examples, folds: list[Fold], system: System) -> dict[str, Figure]:
    """Return for each target the figure of the metric that selects, as `evaluate` has it of one system."""
    (found,) = _resampled(examples, folds, {"": system}).values()
    return {target: metrics[examples.metrics[target]].figure() for target, metrics in found.items()}


def _figures_of(found: dict[str, _Resampled]) -> dict[str, Figure]:
    return {name: one.figure() for name, one in found.items()}


def _resampled(examples: Examples, folds: list[Fold], systems: dict[str, System]) -> dict[str, _ByTarget]:
    """Return the metrics of every system, and of the differences to the first one."""
    rows = [examples.rows(fold.test) for fold in folds]
    groups = speaker_numbers(examples.table.iloc[np.concatenate(rows)])
    weights = resample_weights(int(groups.max()) + 1)
    found: dict[str, _ByTarget] = {}
    for name, system in systems.items():
        found[name] = {}
        for task, goal in examples.goals.items():
            targets = [examples.targets[task][torch.from_numpy(part)] for part in rows]
            found[name] |= _of_task(goal, targets, system, system.outputs[task], groups, weights)
    first, *others = found
    for other in others:
        found[f"{first} - {other}"] = {
            target: {metric: found[first][target][metric] - of for metric, of in metrics.items()}
            for target, metrics in found[other].items()
        }
    return found


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
    """Return the columns of a task's predictions.

    They are ``TARGET_SYSTEM``, of categories ``TARGET_SYSTEM_CLASS`` with the probability of each (of a ridge a score),
    and the spread of several members.

    Args:
        goal: the task.
        outputs: as `Goal.represent` gives them, (members, utterances, outputs).
        system: its name.
    """
    mean = outputs.mean(dim=0)
    columns = {f"{target}_{system}": values for target, values in goal.decode(mean).items()}
    columns |= {f"{target}_{system}_{word}": values for (target, word), values in goal.scores(mean).items()}
    return columns | (goal.spread(outputs) if len(outputs) > 1 else {})


def _of_task(
    goal: Goal,
    targets: list[torch.Tensor],
    system: System,
    outputs: list[torch.Tensor],
    groups: Groups,
    weights: Floats,
) -> _ByTarget:
    together, true = torch.cat(outputs, dim=1), torch.cat(targets)
    draws = member_draws(len(together))
    drawn = [goal.measured(true, torch.tensordot(draw.to(together.dtype), together, dims=1), groups) for draw in draws]
    whole = goal.measured(true, together.mean(dim=0), groups)
    alone = [goal.measured(true, member, groups) for member in together]
    by_fold = [
        goal.measured(part, output.mean(dim=0), np.zeros(len(part), np.int64))
        for part, output in zip(targets, outputs, strict=True)
    ]
    found: _ByTarget = {}
    for target, measured in whole.items():
        metrics = (measured if system.probable else measured.without_probabilities()).metrics
        resampled = {metric: np.empty(len(weights)) for metric in metrics}
        for number, of in enumerate(drawn):
            mine = slice(number, None, len(draws))
            sums = np.tensordot(weights[mine], of[target].sums, axes=1)
            for metric, compute in metrics.items():
                resampled[metric][mine] = compute(sums)
        for metric, compute in metrics.items():
            value, *others = (float(compute(one[target].sums.sum(axis=0))) for one in (whole, *by_fold, *alone))
            folds, members = others[: len(by_fold)], others[len(by_fold) :]
            found.setdefault(target, {})[metric] = _Resampled(value, resampled[metric], folds, members)
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
