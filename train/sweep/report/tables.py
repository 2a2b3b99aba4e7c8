"""What a sweep has found as tables, from its files alone, also while it runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from featurestore.shared.errors import SerError
from train.comparison.compare import Comparison
from train.comparison.systems import MEAN
from train.fronts import by_stream_and_target
from train.sweep.config import Factor, Variant
from train.sweep.effects import Effect, effects_of
from train.sweep.folder import SweepFolder
from train.sweep.leaderboard import STATES, leaderboard, results_of
from train.sweep.methods import BEST, Found, Method, beside, compare_methods, methods_of, summary
from train.unsafe import stamp

Row = dict[str, Any]
TABLES = ("variants", "methods", "factors", "probe", "layer_weights", "classes", "speakers", "checks", "commands")


@dataclass(frozen=True)
class Findings:
    """The tables of a sweep.

    Args:
        folder: of the sweep.
    """

    folder: SweepFolder

    @cached_property
    def results(self) -> dict[int, Row]:
        """The content of metrics.json of each variant that is done."""
        runs = {variant.number: self.folder.run(variant) for variant in self.folder.variants}
        return {number: results_of(run) for number, run in runs.items() if (run.path / "metrics.json").is_file()}

    @cached_property
    def metrics(self) -> dict[str, str]:
        """The metric of each target that all variants predict, or else of those of the first one; and of their mean."""
        every = [one["metrics"] for one in self.results.values()]
        common = {target: metric for target, metric in every[0].items() if all(target in one for one in every)}
        found = common or every[0]
        return {**found, MEAN: ""} if len(found) > 1 else found

    @property
    def target(self) -> str:
        """By which methods are compared."""
        return [*self.metrics][-1]

    @cached_property
    def variants(self) -> pd.DataFrame:
        """The leaderboard: a row for each variant.

        ``seconds`` are of one core, ``epochs`` of all its models, ``MB`` is what a pass over its utterances reads.
        """
        table, epochs = leaderboard(self.folder), self.folder.epochs()
        spent = epochs[["read", "train", "select"]].sum(axis=1).groupby(epochs["variant"]).sum()
        passed = epochs.groupby("variant").size()
        number = table["variant"]
        table = table.assign(
            seconds=number.map(spent).astype(float).round(1),
            epochs=number.map(passed).astype("Int64"),
            MB=[self._megabytes(self.folder.variant(one)) for one in number],
        )
        last = ["state", "models", "why"]
        target = [one for one in table if one in self._ends(self.target)] if self.results else []
        first = [*table.columns[: table.columns.get_loc("state")], "dev", *target]
        return table[[*first, *table.columns.drop([*first, *last]), *last]]

    def _megabytes(self, variant: Variant) -> float:
        run = self.folder.run(variant)
        if not (run.path / "run.json").is_file():
            return float("nan")
        return round(run.note.get("stored_bytes", float("nan")) / 1e6, 2)

    @cached_property
    def states(self) -> dict[str, int]:
        """How many variants are in each state."""
        counts = Counter(self.variants["state"])
        return {state: counts[state] for state in STATES if counts[state]}

    @cached_property
    def methods_done(self) -> list[Method]:
        """The methods of which a variant is done, the best on dev first."""
        return methods_of(self.folder, self.variants)

    @cached_property
    def found(self) -> Found | str:
        """The methods beside the best one, or why they are not compared."""
        try:
            return compare_methods(self.folder, self.methods_done)
        except SerError as error:
            return str(error)

    @property
    def sentence(self) -> str:
        """What can and cannot be told apart."""
        if isinstance(self.found, str):
            return f"Methods are not compared: {self.found}."
        return summary(self.found)

    @cached_property
    def methods(self) -> pd.DataFrame:
        """A row for each method: its trainings, what it reaches with 95 % intervals, and what it is beside the best."""
        compared = {} if isinstance(self.found, str) else {one.name: n for n, one in enumerate(self.found.methods)}
        rows = [self._method(method, compared.get(method.name)) for method in self.methods_done]
        return pd.DataFrame(rows)

    def _method(self, method: Method, place: int | None) -> Row:
        row: Row = {"method": method.name, "trainings": len(method.variants), "dev": method.dev}
        if place is None or isinstance(self.found, str):
            return row | self._means(method.variants)
        return row | _beside(self.found.comparison, place)

    def _means(self, variants: list[Variant]) -> dict[str, float]:
        table = self.variants.set_index("variant").loc[[one.number for one in variants]]
        return {target: float(table[target].mean()) for target in self.metrics if target in table}

    @cached_property
    def effects(self) -> list[Effect]:
        """What each factor does."""
        return effects_of(self.folder, self.variants)

    @cached_property
    def factors(self) -> pd.DataFrame:
        """A row for each level of each factor: what it reaches over the levels of all others.

        ``difference`` is by how much it is better than the level that is best on dev.
        """
        return pd.DataFrame([row for effect in self.effects for row in self._levels(effect)])

    def _levels(self, effect: Effect) -> Iterator[Row]:
        for place, level in enumerate(effect.levels):
            row: Row = {"factor": effect.factor, "level": level.name, "variants": len(level.variants), "dev": level.dev}
            comparison = effect.comparison
            if comparison is None:
                yield row | self._means(level.variants) | {"beside the best": effect.why}
                continue
            yield row | _beside(comparison, place)

    @cached_property
    def probe(self) -> pd.DataFrame:
        """A row for each method that hears one layer, and those beside it that hear several: the layer-probe curve.

        ``curve`` names the levels of all other factors, ``layer`` is the number of the layer, none where there are
        several, and ``level`` the name of the level.
        """
        rows = []
        for factor, layers in probed(self.folder.config.factors).items():
            for _, row in self.methods.iterrows():
                levels = next(one for one in self.methods_done if one.name == row["method"]).variants[0].levels
                if factor in levels:
                    others = {name: level for name, level in levels.items() if name not in (factor, "seed")}
                    curve = ", ".join(f"{name}={level}" for name, level in others.items())
                    layer = layers.get(levels[factor])
                    figures = {key: value for key, value in row.items() if key in self._reached}
                    rows.append({"curve": curve, "level": levels[factor], "layer": layer, **figures})
        table = pd.DataFrame(rows)
        return table.astype({"layer": "Int64"}).sort_values(["curve", "layer"]) if len(table) else table

    @property
    def _reached(self) -> list[str]:
        return ["dev", *(end for target in self.metrics for end in self._ends(target))]

    def _ends(self, target: str) -> list[str]:
        return [target, f"{target}_low", f"{target}_high"]

    @cached_property
    def layer_weights(self) -> pd.DataFrame:
        """A row for each weight of a layer that a model has learned; of no target where all have the same."""
        rows = [
            (number, one["fold"], one["member"], stream, target, layer, weight)
            for number, results in self.results.items()
            for one in results["models"]
            for (stream, target), weights in by_stream_and_target(one["layer_weights"] or {}).items()
            for layer, weight in zip(self._layer_numbers(number, stream, len(weights)), weights, strict=True)
        ]
        columns = ["variant", "fold", "member", "stream", "target", "layer", "weight"]
        return pd.DataFrame(rows, columns=columns)

    def _layer_numbers(self, number: int, stream: str, count: int) -> list[int]:
        run = self.folder.run(self.folder.variant(number))
        chosen = run.config.streams[stream].layers
        every = range(run.note["features"][stream].get("layers") or count)
        return [every[one] for one in (chosen if isinstance(chosen, tuple) else every)]

    @cached_property
    def classes(self) -> pd.DataFrame:
        """A row for each class of each variant, over the test parts of all folds."""
        rows = [
            {"variant": number, "target": target, "class": name, **figures}
            for number, results in self.results.items()
            for target, found in results["classes"].get("model", {}).items()
            for name, figures in found["each"].items()
        ]
        return pd.DataFrame(rows)

    @cached_property
    def speakers(self) -> pd.DataFrame:
        """A row for each speaker and target of each variant."""
        rows = [
            {"variant": number, "speaker": speaker, "target": target, "metric": results["metrics"][target]}
            | {"utterances": found["utterances"], "value": figures[results["metrics"][target]]}
            for number, results in self.results.items()
            for speaker, found in results["groups"].get("speaker", {}).items()
            for target, figures in found["model"].items()
        ]
        return pd.DataFrame(rows)

    @cached_property
    def checks(self) -> pd.DataFrame:
        """A row for each protocol, finding of the audit, warning, reason to skip, and fault that is allowed.

        ``variants`` is in how many of them.
        """
        counts = Counter(one for number, results in self.results.items() for one in self._checks(number, results))
        rows = [{"what": what, "found": found, "variants": count} for (what, found), count in counts.items()]
        return pd.DataFrame(rows, columns=["what", "found", "variants"]).sort_values("what", kind="stable")

    def _checks(self, number: int, results: Row) -> Iterator[tuple[str, str]]:
        protocol = self.folder.run(self.folder.variant(number)).protocol
        yield "protocol", f"{protocol.name}, {len(protocol.folds)} folds, sha256 {results['protocol_sha256']}"
        yield from (("audit", line) for line in results["audit"].get("lines", ()))
        yield from (("warning", line) for line in results["warnings"])
        yield from (("skipped", f"{n} utterances: {why}") for why, n in Counter(results["skipped"].values()).items())
        if results["unsafe"]:
            yield "unsafe", stamp(results["unsafe"])

    @cached_property
    def commands(self) -> pd.DataFrame:
        """The command that makes each variant alone."""
        rows = [{"variant": one.number, "command": self.folder.command(one)} for one in self.folder.variants]
        return pd.DataFrame(rows)

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """All tables by name, those that are empty left out."""
        found: dict[str, pd.DataFrame] = {name: getattr(self, name) for name in TABLES}
        return {name: table for name, table in found.items() if len(table)}


def probed(factors: tuple[Factor, ...]) -> dict[str, dict[str, int]]:
    """Return the factors of which two levels or more hear one layer each, and which layer each of these hears."""
    found = {factor.name: {level: _layer(of) for level, of in factor.levels.items()} for factor in factors}
    single = {name: {level: layer for level, layer in of.items() if layer is not None} for name, of in found.items()}
    return {name: of for name, of in single.items() if len(of) > 1}


def _layer(settings: Row) -> int | None:
    """Return the only layer that the settings of a level choose, if they do."""
    for key, value in settings.items():
        within = value.get("layers") if key.startswith("streams.") and isinstance(value, dict) else None
        chosen = value if key.startswith("streams.") and key.endswith(".layers") else within
        if isinstance(chosen, int):
            return chosen
    return None


def _beside(comparison: Comparison, place: int) -> Row:
    """Return what a system, given by its place, reaches, and how much better it is than the first, the best on dev."""
    last, *others = reversed(comparison.targets)  # their mean, where there are several
    differences = [one for one in comparison.differences if one.target == last]
    one = differences[place - 1] if place else None
    low, high = one.interval if one else (np.nan, np.nan)
    return {
        "beside the best": beside(one) if one else BEST,
        **_with_ends(comparison, place, last),
        "difference": -one.value if one else np.nan,
        "difference_low": -high,
        "difference_high": -low,
        "p_holm": one.p_holm if one else np.nan,
        **{key: value for target in others[::-1] for key, value in _with_ends(comparison, place, target).items()},
    }


def _with_ends(comparison: Comparison, place: int, target: str) -> dict[str, float]:
    reached = comparison.systems[place].reached[target]
    low, high = reached.interval(comparison.speakers)
    return {target: reached.value, f"{target}_low": low, f"{target}_high": high}


def rounded(table: pd.DataFrame, together: bool = True) -> pd.DataFrame:
    """Return a table as texts: numbers with three digits after the point, and intervals beside them.

    Args:
        table: with ``X_low`` and ``X_high`` where ``X`` has an interval.
        together: whether number and interval are in one column; otherwise it is in the next, ``X 95 %``.

    >>> rounded(pd.DataFrame({"V": [0.51234], "V_low": [0.4], "V_high": [0.6]})).to_dict("list")
    {'V': ['0.512 [0.400, 0.600]']}
    """
    ends = {column for column in table if str(column).endswith(("_low", "_high"))}
    found: dict[str, list[str]] = {}
    for column in (str(one) for one in table if one not in ends):
        found[column] = [_text(value) for value in table[column]]
        if f"{column}_low" in ends:
            pairs = zip(table[f"{column}_low"], table[f"{column}_high"], strict=True)
            intervals = [f"[{low:.3f}, {high:.3f}]" if low == low else "" for low, high in pairs]
            if together:
                found[column] = [" ".join(pair).strip() for pair in zip(found[column], intervals, strict=True)]
            else:
                found[f"{column} 95 %"] = intervals
    return pd.DataFrame(found)


def _text(value: Any) -> str:
    if value is None or value is pd.NA or value != value:
        return ""
    return f"{value:.3f}" if isinstance(value, float | np.floating) else str(value)
