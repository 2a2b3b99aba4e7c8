"""What each factor of a sweep does, over all levels of the others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from featurestore.shared.errors import SerError
from train.comparison.compare import Comparison, compare_outcomes
from train.comparison.outcomes import Outcome
from train.sweep.config import Variant
from train.sweep.folder import SweepFolder
from train.sweep.methods import SEED, other_levels, outcome_of

Key = tuple[frozenset[tuple[str, str]], str]
"""The levels of all other factors, and the seed."""


@dataclass(frozen=True)
class Level:
    """A level of a factor.

    Attributes:
        name: of the level.
        variants: all that are done and have it.
        dev: the score that selects, mean over them.
    """

    name: str
    variants: list[Variant]
    dev: float


@dataclass(frozen=True)
class Effect:
    """A factor.

    Attributes:
        factor: its name.
        levels: those of which a variant is done, the best on dev first.
        runs: of each level, that are compared: beside the same levels of all other factors.
        comparison: of the first level with each other one; None where they cannot be compared.
        why: they cannot.
    """

    factor: str
    levels: list[Level]
    runs: int
    comparison: Comparison | None
    why: str


def effects_of(folder: SweepFolder, table: pd.DataFrame) -> list[Effect]:
    """Return what each factor but the seed does.

    The levels of a factor are compared over those runs alone that have the same levels of all other factors, in the way
    of methods: paired, by speakers, by trainings that differ in their seeds, with Holm's correction over its levels.

    Args:
        folder: of the sweep.
        table: its leaderboard.
    """
    dev = table[table["state"] == "done"].set_index("variant")["dev"]
    done = [variant for variant in folder.variants if variant.number in dev.index]
    factors = dict.fromkeys(factor for variant in done for factor in variant.levels if factor != SEED)
    found = []
    for factor in factors:
        groups: dict[str, list[Variant]] = {}
        for variant in done:
            if factor in variant.levels:
                groups.setdefault(variant.levels[factor], []).append(variant)
        levels = [Level(name, of, float(np.mean([dev[one.number] for one in of]))) for name, of in groups.items()]
        if len(levels) > 1:
            found.append(_effect(folder, factor, sorted(levels, key=lambda level: -level.dev)))
    return found


def _effect(folder: SweepFolder, factor: str, levels: list[Level]) -> Effect:
    trainings = [[list(map(folder.run, of)) for of in level] for level in matched(factor, levels)]
    runs = len(trainings[0]) * len(trainings[0][0]) if trainings[0] else 0
    if not runs:
        return Effect(factor, levels, 0, None, "no two variants differ in it alone, for all of its levels")
    outcomes: list[list[list[Outcome]]] = [[[*map(outcome_of, of)] for of in level] for level in trainings]
    named = [(level.name, of) for level, of in zip(levels, outcomes, strict=True)]
    try:
        return Effect(factor, levels, runs, compare_outcomes(named, "first"), "")
    except SerError as error:
        return Effect(factor, levels, 0, None, str(error))


def matched(factor: str, levels: list[Level]) -> list[list[list[Variant]]]:
    """Return for each level and seed the variants beside which there is one of each other level, in the same order."""
    by_key = [{_key(factor, variant): variant for variant in level.variants} for level in levels]
    common = set.intersection(*(set(of) for of in by_key))
    seeds = sorted({seed for _, seed in common})
    whole = [
        others
        for others in dict.fromkeys(others for others, _ in by_key[0])
        if all((others, seed) in common for seed in seeds)
    ]
    return [[[of[others, seed] for others in whole] for seed in seeds if whole] for of in by_key]


def _key(factor: str, variant: Variant) -> Key:
    return frozenset(other_levels(variant, factor, SEED).items()), variant.levels.get(SEED, "")
