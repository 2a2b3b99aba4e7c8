"""Nested selection: each outer fold is tested once, by the configuration that its inner folds chose.

Source: S. Varma and R. Simon (2006), Bias in error estimation when using cross-validation for model selection.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from featurestore.shared.errors import SerError
from train.comparison.systems import MEAN
from train.comparison.table_figures import Resampled, check_tables, read_table, table_figures
from train.config import TrainConfig
from train.examples.examples import Examples, load_examples
from train.examples.protocol import Protocol, fitting, labels_hash, make_protocol, read_protocol
from train.numerics.metrics import interval
from train.reading.corpora import AnyStore
from train.running.folder import make_run_folder
from train.running.run import Say, run
from train.shared.files import write_whole
from train.splits.nested import Nested
from train.unsafe import UNSAFE, stamp


@dataclass(frozen=True)
class Chosen:
    """What the inner folds of an outer fold say.

    Attributes:
        scores: of each configuration over the test parts of all inner folds together, CCC or UAR, the mean of targets.
        name: of the configuration that is best there.
    """

    scores: dict[str, float]
    name: str


@dataclass(frozen=True)
class Selection:
    """What came out.

    Attributes:
        choices: of each outer fold.
        metrics: CCC or UAR, by target.
        honest: over the test parts of all outer folds, each by the configuration that was chosen for it.
        tested: the same of each configuration on all outer folds, where that was asked for.
    """

    choices: list[Chosen]
    metrics: dict[str, str]
    honest: dict[str, Resampled]
    tested: dict[str, dict[str, Resampled]]

    def best_on_test(self) -> str:
        """Return the configuration that somebody would report who picks by the test parts."""
        scores = {name: score_of({target: one[0] for target, one in r.items()}) for name, r in self.tested.items()}
        return max(scores, key=scores.__getitem__)

    def optimism(self) -> dict[str, Resampled]:
        """Return by how much that one's figures are above the honest ones, paired."""
        best = self.tested[self.best_on_test()]
        return {target: (best[target][0] - r[0], best[target][1] - r[1]) for target, r in self.honest.items()}


def nested_selection(
    store: AnyStore, configs: dict[str, TrainConfig], say: Say, all_tested: bool = False
) -> tuple[Path, Selection]:
    """Choose among configurations within each outer fold, and test what was chosen on it.

    Args:
        store: with the features of all of them.
        configs: by name. The first one's ``splits`` or ``protocol`` are those of all; splits that are not nested are
            the outer ones, with three inner folds.
        say: says a line.
        all_tested: also test every configuration on all outer folds, to see what picking by them would give.

    Returns:
        The folder with the runs, ``protocol.json``, ``predictions.csv`` and ``nested.json``, and what came out.

    Raises:
        SerError: if there is one configuration alone, or they predict different targets, or one cannot be trained.
    """
    if len(configs) < 2:
        raise SerError(f"found {len(configs)} configuration to choose from: expected two or more")
    for config in configs.values():
        check_tables(config, "a nested selection")
    examples = {name: load_examples(store, config) for name, config in configs.items()}
    first = next(iter(examples))
    for name, found in examples.items():
        if found.metrics != examples[first].metrics:
            raise SerError(
                f"{name} predicts {_said(found)}, {first} {_said(examples[first])}: expected the same targets"
            )
    protocol = _protocol(configs[first], examples[first])
    for name, found in examples.items():
        fitting(protocol, found.names, store.dataset, Path(name))
    config = configs[first].model_copy(update={"method": "nested"})
    folder = make_run_folder(config, store.dataset, examples[first].clock.source.name)
    write_whole(folder / "protocol.json", protocol.to_json())
    study = _Study(store, configs, folder, say)
    choices = list(study.choose(protocol, examples[first].table))
    tables = study.test(choices, all_tested)
    parts = [(tables[one.name], number, one.name) for number, one in enumerate(choices)]
    chosen = pd.concat([table[table["fold"] == k].assign(configuration=name) for table, k, name in parts])
    metrics = examples[first].metrics
    tested = {name: table_figures(table, metrics) for name, table in tables.items()} if all_tested else {}
    selection = Selection(choices, metrics, table_figures(chosen, metrics), tested)
    unsafe = sorted({fault for one in configs.values() for fault in one.unsafe.names})
    if unsafe:
        chosen["unsafe"] = " ".join(unsafe)
        write_whole(folder / UNSAFE, stamp(unsafe) + "\n")
    write_whole(folder / "predictions.csv", chosen.to_csv())
    note = {"protocol_sha256": protocol.sha256, "unsafe": unsafe, **_described(selection)}
    write_whole(folder / "nested.json", json.dumps(note, indent=1, ensure_ascii=False) + "\n")
    return folder, selection


def score_of(figures: dict[str, float]) -> float:
    """Return what configurations are chosen by: the mean of the targets, or the one there is."""
    return figures.get(MEAN, next(iter(figures.values())))


def selection_lines(selection: Selection) -> Iterator[tuple[str, ...]]:
    """Yield what each figure is of, and its cells, after a header."""
    targets = list(selection.honest)
    yield ("", *(f"{target} {selection.metrics.get(target, '')}".strip() for target in targets))
    rows = {"chosen by inner folds": selection.honest, **selection.tested}
    if selection.tested:
        rows[f"picked by test ({selection.best_on_test()}) - honest"] = selection.optimism()
    for name, figures in rows.items():
        found = (interval(*figures[target]) for target in targets)
        yield (name, *(f"{c['value']:+.3f} [{c['low']:+.3f}, {c['high']:+.3f}]" for c in found))


def _said(examples: Examples) -> str:
    return ", ".join(f"{target} ({metric})" for target, metric in examples.metrics.items())


def _protocol(config: TrainConfig, examples: Examples) -> Protocol:
    """Return outer and inner folds."""
    dataset = examples.store.dataset
    if config.protocol is not None:
        protocol = read_protocol(config.protocol)
        if not protocol.inner:
            raise SerError(f"{config.protocol} has no inner folds: make one with splits=nested")
    else:
        splits = config.splits if isinstance(config.splits, Nested) else Nested(outer=config.splits)
        protocol = make_protocol(splits, examples.table, dataset)
    config.unsafe.refuse(protocol.unsafe, f"splits={protocol.name}")
    return protocol


@dataclass(frozen=True)
class _Study:
    store: AnyStore
    configs: dict[str, TrainConfig]
    folder: Path
    say: Say

    def choose(self, protocol: Protocol, table: pd.DataFrame) -> Iterator[Chosen]:
        """Yield what the inner folds of each outer fold choose."""
        for number, folds in enumerate(protocol.inner):
            inner = replace(protocol, folds=folds, inner=[], name=f"{protocol.name}, inner folds of fold {number}")
            inner = replace(inner, labels_sha256=labels_hash(inner, table))
            write_whole(self.folder / f"inner_{number}.json", inner.to_json())
            scores = {}
            for name in self.configs:
                _, results = self._run(name, f"inner_{number}", lambda _: None)
                scores[name] = score_of({target: one["value"] for target, one in results["results"]["model"].items()})
                self.say(f"fold {number}, inner folds: {scores[name]:+.3f} {name}")
            best = max(scores, key=scores.__getitem__)
            self.say(f"fold {number}: {best} is chosen")
            yield Chosen(scores, best)

    def test(self, choices: list[Chosen], all_tested: bool) -> dict[str, pd.DataFrame]:
        """Return what each configuration predicts for the folds for which it was chosen, or for all."""
        tables = {}
        for name in self.configs:
            numbers = tuple(k for k, one in enumerate(choices) if all_tested or one.name == name)
            if numbers:
                self.say(f"fold {', '.join(map(str, numbers))}: {name}")
                place, results = self._run(name, "protocol", self.say, numbers)
                tables[name] = read_table(place / "predictions.csv", results["metrics"])
        return tables

    def _run(
        self, name: str, protocol: str, say: Say, folds: tuple[int, ...] | None = None
    ) -> tuple[Path, dict[str, Any]]:
        asked = {
            "protocol": self.folder / f"{protocol}.json",
            "runs": self.folder / protocol,
            "method": f"configuration_{list(self.configs).index(name)}",
            "folds": folds,
            "baseline": False,
        }
        return run(self.store, self.configs[name].model_copy(update=asked), say)


def _described(selection: Selection) -> dict[str, Any]:
    """Return what nested.json says of it."""
    found: dict[str, Any] = {
        "metrics": selection.metrics,
        "folds": [{"chosen": one.name, "scores": one.scores} for one in selection.choices],
        "honest": _figures(selection.honest),
    }
    if selection.tested:
        found["tested"] = {name: _figures(figures) for name, figures in selection.tested.items()}
        found["best_on_test"] = selection.best_on_test()
        found["optimism"] = _figures(selection.optimism())
    return found


def _figures(resampled: dict[str, Resampled]) -> dict[str, Any]:
    return {target: interval(*one) for target, one in resampled.items()}
