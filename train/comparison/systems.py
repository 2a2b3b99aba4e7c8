"""Systems and their differences on a target: how large, how sure, and whether that tells them apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np

from train.comparison.outcomes import Tally
from train.comparison.significance import (
    LEVEL,
    Error,
    bootstrap_error,
    corrected_t_p,
    holm,
    jackknife_error,
    smallest_difference,
    swap_p,
)
from train.numerics.metrics import Floats

RESAMPLES = 2_000
"""Of the speakers: they give a deviation, which takes fewer of them than a percentile."""
STUDIES = 400
WITHIN = 100
"""Studies that are simulated, and resamples of the speakers of each."""
MEAN = "mean"
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
        self.tallies, self._speakers = tallies, weights.shape[1]
        self.value = float(self.values(np.ones((1, weights.shape[1])))[0])
        self.over_speakers = self.values(weights)
        without = np.mean([tally.without for tally in tallies], axis=0)
        self.over_trainings = jackknife_error(without) if len(without) else None
        self.folds = np.mean([tally.folds for tally in tallies], axis=0)

    def values(self, weights: Floats) -> Floats:
        """Return the metric with so many of each speaker, (n, speakers): (n,)."""
        return np.mean([tally.values(weights) for tally in self.tallies], axis=0)

    @cached_property
    def in_studies(self) -> tuple[Floats, Floats]:
        """The metric in each of `STUDIES` studies that draw speakers, and in resamples of the speakers of each."""
        count = self._speakers
        found, within = np.empty(STUDIES), np.empty((STUDIES, WITHIN))
        for study in range(STUDIES):
            rng = np.random.default_rng([STUDIES, study])  # the same for all systems: their differences are paired
            drawn = rng.multinomial(count, np.full(count, 1 / count))
            found[study] = self.values(drawn[None].astype(np.float64))[0]
            within[study] = self.values(rng.multinomial(count, drawn / count, WITHIN).astype(np.float64))
        return found, within

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
        speakers: how many there are.
        value: of the first less that of the second, with its 95 % interval, ``low`` and ``high``.
        error: of the value: over speakers, and over trainings where both were trained several times.
        trained_again: whether the error counts trainings.
        p_folds: of the corrected resampled t-test; NaN where there is one fold.
        p_holm: ``p`` among those of all pairs on this target, by Holm's procedure.
        pairs: among which.
    """

    target: str
    first: System
    second: System
    speakers: int
    value: float
    error: Error
    trained_again: bool
    p_folds: float
    p_holm: float = float("nan")
    pairs: int = 1

    @cached_property
    def p_swaps(self) -> float:
        """The p-value of the permutation test that swaps the two within speakers."""
        a, b = self._reached
        return swap_p(_swapped(a.tallies, b.tallies), self.speakers)

    @cached_property
    def smallest(self) -> float:
        """The smallest true difference that 80 % of simulated studies find."""
        a, b = self._reached
        (found, within), (others, others_within) = a.in_studies, b.in_studies
        trainings = [error for error in (a.over_trainings, b.over_trainings) if error] if self.trained_again else []
        differences, of_resamples = found - others, within - others_within
        return smallest_difference(differences, of_resamples, self.value, self.speakers, trainings, self.pairs)

    @property
    def _reached(self) -> tuple[Reached, Reached]:
        return self.first.reached[self.target], self.second.reached[self.target]

    @property
    def p(self) -> float:
        """The p-value of the t-test with `error`."""
        return self.error.p(self.value)

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval."""
        return self.error.interval(self.value)

    @property
    def verdict(self) -> Verdict:
        """What can be said of the first: the one rule, see `compare_systems`."""
        if not self.p_holm <= LEVEL:
            return "not told apart"
        if self.trained_again:
            return "better" if self.value > 0 else "worse"
        return "better as trained" if self.value > 0 else "worse as trained"


def compare_systems(
    target: str, pairs: Sequence[tuple[System, System]], speakers: int, ratio: float
) -> list[Difference]:
    """Return the differences of pairs of systems on a target.

    Two systems are told apart where Holm's p-value, over the pairs, is at most 5 %; and the methods, not these models
    alone, where both were trained several times. The p-value is that of a t-test whose error is the bootstrap's over
    speakers and the jackknife's over trainings: models that differ in their seeds do differ on the same speakers, so an
    error over speakers alone finds differences between trainings of one method. The degrees of freedom are those of
    Welch and Satterthwaite, but no more than those of the trainings: a few of these may vary less by chance than more
    would, and then the speakers' part of the error, which is known better, would make it look well known
    (tests/benchmarks/null_study.py).

    Args:
        target: or ``mean``.
        pairs: of systems.
        speakers: how many there are.
        ratio: of the sizes of a test and a training part.
    """
    found = [_difference(target, first, second, speakers, ratio) for first, second in pairs]
    adjusted = holm([one.p for one in found])
    return [replace(one, p_holm=float(p), pairs=len(found)) for one, p in zip(found, adjusted, strict=True)]


def _difference(target: str, first: System, second: System, speakers: int, ratio: float) -> Difference:
    a, b = first.reached[target], second.reached[target]
    error = bootstrap_error(a.over_speakers - b.over_speakers, speakers)
    trained_again = a.over_trainings is not None and b.over_trainings is not None
    if a.over_trainings and b.over_trainings:
        error = error + a.over_trainings + b.over_trainings
        most = a.over_trainings.freedom + b.over_trainings.freedom
        error = replace(error, freedom=min(error.freedom, most))
    p_folds = corrected_t_p(a.folds - b.folds, ratio)
    return Difference(target, first, second, speakers, a.value - b.value, error, trained_again, p_folds)


def _swapped(a: list[Tally], b: list[Tally]) -> Callable[[Floats], Floats]:
    """Return the function of swaps, (n, speakers) of 0 and 1, that gives the differences after them, (n,)."""

    def difference(swaps: Floats) -> Floats:
        found = [one.less_after(swaps, other) for one, other in zip(a, b, strict=True)]
        return np.asarray(np.mean(found, axis=0))

    return difference
