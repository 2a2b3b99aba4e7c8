"""Runs beside each other: which of them are better, by how much, and which cannot be told apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from featurestore.shared.errors import SerError
from train.comparison.outcomes import Outcome, Truth, check_same_tests, check_seeds
from train.comparison.systems import MEAN, RESAMPLES, Difference, Reached, System, compare_systems
from train.numerics.metrics import Floats, Metric, resample_weights
from train.reading.labels import speaker_numbers

Against = Literal["first", "all"]
Trainings = Sequence[Sequence[Outcome]]
"""The runs of each training of a system."""


@dataclass(frozen=True)
class Comparison:
    """Systems on the same test parts.

    Attributes:
        metrics: of each target; the mean of them is ``mean``, where there are several.
        known: whether all speakers are known; each utterance without one counts as a speaker.
        left_out: what some runs predict and others do not, a line each.
    """

    metrics: dict[str, Metric]
    systems: list[System]
    differences: list[Difference]
    speakers: int
    known: bool
    left_out: list[str]

    @property
    def targets(self) -> list[str]:
        """The targets, and their mean."""
        return [*self.metrics, MEAN] if len(self.metrics) > 1 else [*self.metrics]

    def title(self, target: str) -> str:
        """Return a target with its metric."""
        return f"{target} {self.metrics[target]}" if target in self.metrics else target


def compare_runs(paths: Sequence[Path], seeds: int = 1, against: Against = "all") -> Comparison:
    """Compare runs on the same test parts.

    Args:
        paths: of their folders.
        seeds: how many of them, one after another, are one system trained with other seeds.
        against: which pairs are compared: all, or the first system with each other one.

    Raises:
        SerError: if there are no two systems, or their test parts differ, or a group is not one method.
    """
    if seeds < 1 or len(paths) % seeds or len(paths) < 2 * seeds:
        wanted = "two runs or more" if seeds == 1 else f"two groups or more of {seeds} runs each (--seeds {seeds})"
        raise SerError(f"found {len(paths)} run{'' if len(paths) == 1 else 's'}, expected {wanted}")
    outcomes = [Outcome(path) for path in paths]
    check_same_tests(outcomes)
    groups = [outcomes[start : start + seeds] for start in range(0, len(outcomes), seeds)]
    for group in groups:
        check_seeds(group)
    names = short_names([group[0].path for group in groups])
    more = f" (+{seeds - 1})" if seeds > 1 else ""
    trainings = [[[outcome] for outcome in group] for group in groups]
    return compare_outcomes([(f"{name}{more}", of) for name, of in zip(names, trainings, strict=True)], against)


def compare_outcomes(systems: Sequence[tuple[str, Trainings]], against: Against = "all") -> Comparison:
    """Compare systems on the same test parts.

    Args:
        systems: two or more of them, each with its name, and its trainings: of a method a run each, of a setting the
            runs of several methods that have it, over which the metric is averaged.
        against: which pairs are compared: all, or the first system with each other one.

    Raises:
        SerError: if their test parts differ, or have one speaker.
    """
    outcomes = [outcome for _, trainings in systems for runs in trainings for outcome in runs]
    targets = check_same_tests(outcomes)
    truths = {target: truth_of(outcomes, target) for target in targets}
    speakers = next(iter(truths.values())).speakers
    count = int(speakers.max()) + 1
    if count < 2:
        raise SerError(f"the test parts of {outcomes[0].path} have one speaker: nothing can be said of others")
    weights = resample_weights(count, resamples=RESAMPLES)
    compared = [_system(name, trainings, truths, weights) for name, trainings in systems]
    pairs = list(combinations(compared, 2)) if against == "all" else [(compared[0], other) for other in compared[1:]]
    ratio = float(np.mean([outcome.ratio for outcome in outcomes]))
    table = outcomes[0].table
    known = "speaker" in table and bool((table["speaker"] != "").all())
    metrics = {target: truth.metric for target, truth in truths.items()}
    found = Comparison(metrics, compared, [], count, known, _left_out(outcomes, targets))
    differences = [one for target in found.targets for one in compare_systems(target, pairs, count, ratio)]
    return replace(found, differences=differences)


def _left_out(outcomes: Sequence[Outcome], targets: list[str]) -> list[str]:
    others = [(one, [target for target in one.metrics if target not in targets]) for one in outcomes]
    return [f"left out: {', '.join(more)} of {one.path}, which not all runs predict" for one, more in others if more]


def truth_of(outcomes: Sequence[Outcome], target: str) -> Truth:
    """Return the labels of runs that have the same test parts."""
    table, metric = outcomes[0].table, outcomes[0].metrics[target]
    labels = table[target].to_numpy()
    goals = [goal for one in outcomes for goal in one.folder.goals.values() if target in goal.metrics]
    folds = np.unique(table.index.get_level_values("fold"), return_inverse=True)[1].astype(np.int64)
    speakers = speaker_numbers(table.droplevel("fold"))
    classes = pd.Index(sorted({name for goal in goals for name in goal.described().get("classes", [])}))
    return Truth(metric, labels, speakers, folds, classes)


def _system(name: str, trainings: Trainings, truths: dict[str, Truth], weights: Floats) -> System:
    runs = [outcome for of in trainings for outcome in of]
    members = len(runs[0].seeds)
    without = runs[0].without_each() if len(runs) == 1 and members > 1 else []
    tallies = {
        target: truth.tally(
            [one.predicted(target) for one in runs], [one[target].to_numpy() for one in without], len(trainings)
        )
        for target, truth in truths.items()
    }
    reached = {target: Reached([tally], weights) for target, tally in tallies.items()}
    if len(tallies) > 1:
        reached[MEAN] = Reached(list(tallies.values()), weights)
    return System(name, len(trainings) if len(runs) > 1 else members, reached)


def short_names(paths: Sequence[Path]) -> list[str]:
    """Return what tells the paths apart.

    >>> short_names([Path("runs/emotale/none/exp_1"), Path("runs/emotale/concat/exp_1")])
    ['none/exp_1', 'concat/exp_1']
    """
    parts = [path.resolve().parts for path in paths]
    same = 0
    while all(len(one) > same + 1 and one[same] == parts[0][same] for one in parts):
        same += 1
    return ["/".join(one[same:]) for one in parts]
