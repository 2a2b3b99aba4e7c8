"""Runs beside each other: which of them are better, by how much, and which cannot be told apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from featurestore.errors import SerError
from train.evaluate import speaker_numbers
from train.files import write_whole
from train.metrics import Floats, Metric, resample_weights
from train.outcomes import Outcome, Tally, Truth, check_same_tests, check_seeds
from train.significance import (
    LEVEL,
    Error,
    bootstrap_error,
    corrected_t_p,
    holm,
    jackknife_error,
    smallest_difference,
    swap_p,
)

RESAMPLES = 2_000
"""Of the speakers: they give a deviation, which takes fewer of them than a percentile."""
MEAN = "mean"
Against = Literal["first", "all"]
Verdict = Literal["better", "worse", "better as trained", "worse as trained", "not told apart"]


class Reached:
    """What a system reaches on a target, or on several in the mean.

    Args:
        tallies: of the targets.
        weights: how often each speaker is in each bootstrap resample, (resamples, speakers).

    Attributes:
        value: of the metric.
        over_speakers: in each resample.
        over_trainings: the error of what training again would give; None where there is one training.
        folds: the metric of each fold.
    """

    def __init__(self, tallies: list[Tally], weights: Floats) -> None:
        self.tallies = tallies
        self.value = float(self.values(np.ones((1, weights.shape[1])))[0])
        self.over_speakers = self.values(weights)
        without = np.mean([tally.without for tally in tallies], axis=0)
        self.over_trainings = jackknife_error(without) if len(without) else None
        self.folds = np.mean([tally.folds for tally in tallies], axis=0)

    def values(self, weights: Floats) -> Floats:
        """Return the metric with so many of each speaker, (n, speakers): (n,)."""
        return np.mean([tally.values(weights) for tally in self.tallies], axis=0)

    def interval(self, speakers: int) -> tuple[float, float]:
        """Return the 95 % interval over speakers, and trainings where there are several."""
        error = bootstrap_error(self.over_speakers, speakers)
        low, high = (error + self.over_trainings if self.over_trainings else error).interval(self.value)
        return low, min(high, 1.0)


@dataclass(frozen=True)
class System:
    """A method: a run, or runs that differ in their seeds."""

    name: str
    trainings: int
    reached: dict[str, Reached]


@dataclass(frozen=True)
class Difference:
    """How much better ``first`` is than ``second`` on a target.

    Attributes:
        target: the target, or ``mean``.
        value: of the first less that of the second, with its 95 % interval, ``low`` and ``high``.
        error: of the value: over speakers, and over trainings where both were trained several times.
        trained_again: whether the error counts trainings.
        p: of the t-test with that error.
        p_swaps: of the permutation test that swaps the two within speakers.
        p_folds: of the corrected resampled t-test; NaN where there is one fold.
        p_holm: ``p`` among those of all pairs on this target, by Holm's procedure.
        smallest: the smallest true difference that 80 % of such studies find.
    """

    target: str
    first: System
    second: System
    value: float
    error: Error
    trained_again: bool
    p_swaps: float
    p_folds: float
    p_holm: float = float("nan")
    smallest: float = float("nan")

    @property
    def p(self) -> float:  # noqa: D102
        return self.error.p(self.value)

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval."""
        return self.error.interval(self.value)

    @property
    def verdict(self) -> Verdict:
        """What can be said of the first: the one rule, see `compare_outcomes`."""
        if not self.p_holm <= LEVEL:
            return "not told apart"
        if self.trained_again:
            return "better" if self.value > 0 else "worse"
        return "better as trained" if self.value > 0 else "worse as trained"


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
    targets = check_same_tests(outcomes)
    groups = [outcomes[start : start + seeds] for start in range(0, len(outcomes), seeds)]
    for group in groups:
        check_seeds(group)
    truths = {target: truth_of(outcomes, target) for target in targets}
    names = short_names([group[0].path for group in groups])
    speakers = next(iter(truths.values())).speakers
    count = int(speakers.max()) + 1
    if count < 2:
        raise SerError(f"the test parts of {paths[0]} have one speaker: nothing can be said of others")
    weights = resample_weights(count, resamples=RESAMPLES)
    systems = [_system(name, group, truths, weights) for name, group in zip(names, groups, strict=True)]
    pairs = list(combinations(systems, 2)) if against == "all" else [(systems[0], other) for other in systems[1:]]
    ratio = float(np.mean([outcome.ratio for outcome in outcomes]))
    table = outcomes[0].table
    known = "speaker" in table and bool((table["speaker"] != "").all())
    metrics = {target: truth.metric for target, truth in truths.items()}
    found = Comparison(metrics, systems, [], count, known, _left_out(outcomes, targets))
    differences = [one for target in found.targets for one in compare_systems(target, pairs, count, ratio)]
    return replace(found, differences=differences)


def _left_out(outcomes: Sequence[Outcome], targets: list[str]) -> list[str]:
    others = [(one, [target for target in one.metrics if target not in targets]) for one in outcomes]
    return [f"left out: {', '.join(more)} of {one.path}, which not all runs predict" for one, more in others if more]


def compare_systems(
    target: str, pairs: Sequence[tuple[System, System]], speakers: int, ratio: float
) -> list[Difference]:
    """Return the differences of pairs of systems on a target.

    Two systems are told apart where Holm's p-value, over the pairs, is at most 5 %; and the methods, not these models
    alone, where both were trained several times. The p-value is that of a t-test whose error is the bootstrap's over
    speakers and the jackknife's over trainings: models that differ in their seeds do differ on the same speakers, so an
    error over speakers alone finds differences between trainings of one method.

    Args:
        target: or ``mean``.
        pairs: of systems.
        speakers: how many there are.
        ratio: of the sizes of a test and a training part.
    """
    found = [_difference(target, first, second, speakers, ratio) for first, second in pairs]
    adjusted = holm([one.p for one in found])
    return [
        replace(one, p_holm=float(p), smallest=smallest_difference(one.error, len(found)))
        for one, p in zip(found, adjusted, strict=True)
    ]


def _difference(target: str, first: System, second: System, speakers: int, ratio: float) -> Difference:
    a, b = first.reached[target], second.reached[target]
    error = bootstrap_error(a.over_speakers - b.over_speakers, speakers)
    trained_again = a.over_trainings is not None and b.over_trainings is not None
    if a.over_trainings and b.over_trainings:
        error = error + a.over_trainings + b.over_trainings
    p_swaps = swap_p(_swapped(a.tallies, b.tallies), speakers)
    p_folds = corrected_t_p(a.folds - b.folds, ratio)
    return Difference(target, first, second, a.value - b.value, error, trained_again, p_swaps, p_folds)


def _swapped(a: list[Tally], b: list[Tally]) -> Callable[[Floats], Floats]:
    """Return the function of swaps, (n, speakers) of 0 and 1, that gives the differences after them, (n,)."""

    def difference(swaps: Floats) -> Floats:
        found = [one.less_after(swaps, other) for one, other in zip(a, b, strict=True)]
        return np.asarray(np.mean(found, axis=0))

    return difference


def truth_of(outcomes: Sequence[Outcome], target: str) -> Truth:
    """Return the labels of runs that have the same test parts."""
    table, metric = outcomes[0].table, outcomes[0].metrics[target]
    labels = table[target].to_numpy()
    names = [] if metric == "CCC" else [labels, *(outcome.predicted(target) for outcome in outcomes)]
    folds = np.unique(table.index.get_level_values("fold"), return_inverse=True)[1].astype(np.int64)
    speakers = speaker_numbers(table.droplevel("fold"))
    classes = pd.Index(sorted({str(name) for column in names for name in column}))
    return Truth(metric, labels, speakers, folds, classes)


def _system(name: str, group: list[Outcome], truths: dict[str, Truth], weights: Floats) -> System:
    members = len(group[0].seeds)
    without = group[0].without_each() if len(group) == 1 and members > 1 else []
    tallies = {
        target: truth.tally([one.predicted(target) for one in group], [one[target].to_numpy() for one in without])
        for target, truth in truths.items()
    }
    reached = {target: Reached([tally], weights) for target, tally in tallies.items()}
    if len(tallies) > 1:
        reached[MEAN] = Reached(list(tallies.values()), weights)
    trainings = len(group) if len(group) > 1 else members
    return System(f"{name} (+{len(group) - 1})" if len(group) > 1 else name, trainings, reached)


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


def write_comparison(comparison: Comparison, folder: Path) -> None:
    """Write comparison.csv and comparison.tex into a folder, which is made if it is not there.

    Raises:
        SerError: if it cannot be written.
    """
    from train.comparison_tables import as_csv, as_latex

    write_whole(folder / "comparison.csv", as_csv(comparison))
    write_whole(folder / "comparison.tex", as_latex(comparison))
