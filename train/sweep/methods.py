"""The methods of a sweep, each trained with one or several seeds, and which cannot be told from the best one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from featurestore.errors import SerError
from train.compare import Comparison, compare_runs
from train.sweep.config import Variant
from train.sweep.folder import SweepFolder

SEED = "seed"


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
            levels = {factor: level for factor, level in variant.levels.items() if factor != SEED}
            groups.setdefault(Variant(0, levels, ()).name, []).append(variant)
    found = [Method(name, of, float(np.mean([dev[one.number] for one in of]))) for name, of in groups.items()]
    return sorted(found, key=lambda method: -method.dev)


def found_lines(folder: SweepFolder, table: pd.DataFrame) -> list[str]:
    """Return what a sweep says of its methods: which is best on dev, and how each other one compares with it on test.

    Args:
        folder: of the sweep.
        table: its leaderboard.
    """
    methods = methods_of(folder, table)
    seeds = {len(method.variants) for method in methods}
    if len(methods) < 2 or len(seeds) > 1:
        return ["methods are compared where two or more of them are done, with as many seeds each"]
    paths = [folder.run(variant).path for method in methods for variant in method.variants]
    try:
        comparison = compare_runs(paths, seeds.pop(), "first")
    except SerError as error:
        return [f"methods cannot be compared: {error}"]
    return list(_in_words(methods, comparison))


def _in_words(methods: list[Method], comparison: Comparison) -> Iterator[str]:
    best, target, count = methods[0], comparison.targets[-1], len(methods[0].variants)
    reached = comparison.systems[0].reached[target]
    low, high = reached.interval(comparison.speakers)
    title = comparison.title(target)
    yield (
        f"best on dev: {best.name}: {title} {reached.value:.3f} [{low:.3f}, {high:.3f}] on the test parts, "
        f"{count} training{'s' if count > 1 else ''}, {comparison.speakers} speakers"
    )
    differences = [one for one in comparison.differences if one.target == target]
    for method, one in zip(methods[1:], differences, strict=True):
        low, high = one.interval
        told = {"not told apart": "cannot be told apart from it", "better": "is worse", "worse": "is better"}
        word = told.get(one.verdict, f"{'is worse' if one.value > 0 else 'is better'} as it is trained")
        yield f"{method.name} {word}: {-one.value:+.3f} [{-high:+.3f}, {-low:+.3f}], Holm p {one.p_holm:.3f}"
