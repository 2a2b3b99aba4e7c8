"""The methods of a sweep, each trained with one or several seeds, and which cannot be told from the best one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from featurestore.shared.errors import SerError
from train.comparison.compare import Comparison, compare_outcomes
from train.comparison.outcomes import Outcome, check_seeds
from train.comparison.systems import Difference, Reached
from train.running.folder import RunFolder
from train.sweep.config import Levels, Variant
from train.sweep.folder import SweepFolder

SEED = "seed"
MOST_LINES = 20
"""Methods that are named each."""
BEST, APART = "best on dev", "not told apart"
BESIDE = {APART: APART, "better": "worse", "worse": "better"}
"""What a method is beside the best one, by what that one is beside it."""


@dataclass(frozen=True)
class Method:
    """The variants that differ in their seeds alone.

    Attributes:
        name: the levels of all other factors.
        variants: that are done.
        dev: the score that selects, mean over them.
    """

    name: str
    variants: list[Variant]
    dev: float


@dataclass(frozen=True)
class Found:
    """Methods beside the one that is best on dev.

    Attributes:
        methods: that are compared, the best on dev first.
        comparison: of the first with each other one.
        waiting: that have not as many trainings yet.
    """

    methods: list[Method]
    comparison: Comparison
    waiting: list[Method]

    @property
    def target(self) -> str:
        """By which they are compared: the mean of the targets, or the only one."""
        return self.comparison.targets[-1]

    @property
    def reached(self) -> list[Reached]:
        """What each of them reaches."""
        return [system.reached[self.target] for system in self.comparison.systems]

    @property
    def differences(self) -> list[Difference]:
        """The first one less each other one."""
        return [one for one in self.comparison.differences if one.target == self.target]

    @property
    def beside(self) -> list[str]:
        """What each of them is beside the best one."""
        return [BEST, *(beside(one) for one in self.differences)]


def beside(one: Difference) -> str:
    """Return what the second of two systems is beside the first."""
    word = one.verdict
    return BESIDE[word] if word in BESIDE else f"{BESIDE[word.removesuffix(' as trained')]} as trained"


def other_levels(variant: Variant, *factors: str) -> Levels:
    """Return the levels of a variant but those of some factors."""
    return {factor: level for factor, level in variant.levels.items() if factor not in factors}


def method_name(variant: Variant) -> str:
    """Return the name that a variant has without its seed."""
    return Variant(0, other_levels(variant, SEED), ()).name


def methods_of(folder: SweepFolder, table: pd.DataFrame) -> list[Method]:
    """Return the methods of which a variant is done, the best on dev first.

    Args:
        folder: of the sweep.
        table: its leaderboard.
    """
    dev = table.set_index("variant")["dev"]
    done = set(table["variant"][table["state"] == "done"])
    groups: dict[str, list[Variant]] = {}
    for variant in folder.variants:
        if variant.number in done:
            groups.setdefault(method_name(variant), []).append(variant)
    found = [Method(name, of, float(np.mean([dev[one.number] for one in of]))) for name, of in groups.items()]
    return sorted(found, key=lambda method: -method.dev)


def outcome_of(run: RunFolder) -> Outcome:
    """Return what a finished run predicts; it is read once."""
    return _outcome(run.path, run.written)


@lru_cache(maxsize=2048)
def _outcome(path: Path, written: object) -> Outcome:  # noqa: ARG001, a run that is made anew is read anew
    return Outcome(path)


def compare_methods(folder: SweepFolder, methods: list[Method]) -> Found:
    """Compare those that have the most trainings with the one of them that is best on dev.

    Raises:
        SerError: if there are no two of them, or their test parts differ.
    """
    most = max((len(method.variants) for method in methods), default=0)
    ready = [method for method in methods if len(method.variants) == most]
    if len(ready) < 2:
        raise SerError("methods are compared where two or more of them are done, with as many seeds each")
    systems = []
    for method in ready:
        outcomes = [outcome_of(folder.run(variant)) for variant in method.variants]
        check_seeds(outcomes)
        systems.append((method.name, [[outcome] for outcome in outcomes]))
    waiting = [method for method in methods if len(method.variants) < most]
    return Found(ready, compare_outcomes(systems, "first"), waiting)


def found_lines(folder: SweepFolder, table: pd.DataFrame) -> list[str]:
    """Return what a sweep says of its methods: which is best on dev, and how each other one compares with it on test.

    Args:
        folder: of the sweep.
        table: its leaderboard.
    """
    try:
        found = compare_methods(folder, methods_of(folder, table))
    except SerError as error:
        return [f"methods are not compared: {error}"]
    return [*_in_words(found), summary(found)]


def summary(found: Found) -> str:
    """Return in a sentence which methods are better or worse than the best on dev, and which cannot be told from it."""
    groups: dict[str, list[str]] = {}
    for method, word in zip(found.methods[1:], found.beside[1:], strict=True):
        groups.setdefault(word, []).append(method.name)
    words = [f"{len(names)} {_verb(word, len(names))} ({_named(names)})" for word, names in groups.items()]
    others = len(found.methods) - 1
    best = f"{found.methods[0].name} is the best on dev{_of_those_compared(found)}."
    return f"{best} Of {others} other{'s' * (others > 1)}, {', '.join(words)}."


def _of_those_compared(found: Found) -> str:
    """Return among which methods the first one is the best, where some that have fewer trainings reach more."""
    better = [one.name for one in found.waiting if one.dev > found.methods[0].dev]
    if not better:
        return ""
    count = len(found.methods[0].variants)
    return f" of those with {count} trainings (with fewer trainings there is more in {_named(better)})"


def _verb(word: str, count: int) -> str:
    if word == APART:
        return "cannot be told apart from it"
    return f"{'is' if count == 1 else 'are'} {word}"


def _named(names: list[str]) -> str:
    return "; ".join(names[:MOST_LINES]) + (f"; and {len(names) - MOST_LINES} more" if len(names) > MOST_LINES else "")


def _in_words(found: Found) -> Iterator[str]:
    count, comparison = len(found.methods[0].variants), found.comparison
    low, high = found.reached[0].interval(comparison.speakers)
    yield (
        f"best on dev: {found.methods[0].name}: {comparison.title(found.target)} {found.reached[0].value:.3f} "
        f"[{low:.3f}, {high:.3f}] on the test parts, {count} training{'s' if count > 1 else ''}, "
        f"{comparison.speakers} speakers"
    )
    pairs = list(zip(found.methods[1:], found.differences, strict=True))
    for method, one in pairs[:MOST_LINES]:
        low, high = one.interval
        word = _verb(beside(one), 1)
        yield f"{method.name} {word}: {-one.value:+.3f} [{-high:+.3f}, {-low:+.3f}], Holm p {one.p_holm:.3f}"
    if len(pairs) > MOST_LINES:
        yield f"and {len(pairs) - MOST_LINES} more, in the report"
    if found.waiting:
        yield f"not compared yet, with fewer trainings: {'; '.join(one.name for one in found.waiting[:MOST_LINES])}"
