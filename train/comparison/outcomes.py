"""What runs predict for the same test parts, joined by name, as sums from which their metrics follow."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from featurestore.shared.errors import SerError
from train.numerics.metrics import Floats, Groups, Metric, ccc_of, choice_sums, concordance_sums, uar_of
from train.reading.labels import some
from train.running.folder import RunFolder
from train.shared.tensors import read_tensors

KEYS = ["name", "fold"]
METRIC = {"CCC": ccc_of, "UAR": uar_of}
OF_NUMBERS = ("CCC", "pairwise_accuracy")
"""Metrics of targets that are numbers."""
NOT_OF_A_MODEL = ("seed", "runs", "method", "workers", "scheduler", "device", "baseline", "plots", "log")
"""Settings by which runs of one method may differ."""


class Outcome:
    """What a run predicts for the test parts.

    Args:
        path: of its folder.

    Raises:
        SerError: if it is no run, or an unfinished one.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.folder = path, RunFolder(path)
        self.metrics: dict[str, Metric] = {}
        for goal in self.folder.goals.values():
            self.metrics |= goal.metrics
        file = path / "predictions.csv"
        if not file.is_file():
            raise SerError(f"{path} is unfinished: it has no predictions.csv; ser-train resume {path} goes on")
        wanted = {*KEYS, "speaker", *self.metrics, *(f"{target}_model" for target in self.metrics)}
        table = pd.read_csv(file, dtype=str, keep_default_na=False, usecols=lambda column: column in wanted)
        table = table.set_index(KEYS).sort_index()
        absent = [column for target in self.metrics for column in (target, f"{target}_model") if column not in table]
        if absent:
            raise SerError(f"{file} is damaged: it has no column {absent[0]}")
        self.table = table.assign(
            **{column: pd.to_numeric(table[column]) for target in self.metrics for column in self._numeric(target)}
        )

    def _numeric(self, target: str) -> list[str]:
        return [target, f"{target}_model"] if self.metrics[target] in OF_NUMBERS else []

    @property
    def seeds(self) -> range:
        """The seeds of its members."""
        return range(self.folder.config.seed, self.folder.config.seed + self.folder.config.members)

    @cached_property
    def ratio(self) -> float:
        """How large its test parts are beside its training parts, on average."""
        folds = [self.folder.fold(fold) for fold in dict.fromkeys(v.fold for v in self.folder.models)]
        return float(np.mean([len(fold.test) / len(fold.train) for fold in folds]))

    def predicted(self, target: str) -> Any:
        """Return the predictions, in the order of the table."""
        return self.table[f"{target}_model"].to_numpy()

    def without_each(self) -> list[pd.DataFrame]:
        """Return for each member the predictions of the others, averaged: a column for each target."""
        found: dict[int, list[pd.DataFrame]] = {member: [] for member in range(self.folder.config.members)}
        for fold in dict.fromkeys(key.fold for key in self.folder.models):
            index = pd.MultiIndex.from_product([self.folder.protocol.folds[fold].test, [str(fold)]], names=KEYS)
            files = [self.folder.outputs(key) for key in self.folder.models if key.fold == fold]
            outputs = [read_tensors(file)[0] for file in files]
            for member, parts in found.items():
                columns: dict[str, Any] = {}
                for task, goal in self.folder.goals.items():
                    others = [output[task] for number, output in enumerate(outputs) if number != member]
                    columns |= goal.decode(goal.represent(torch.stack(others)).mean(dim=0))
                parts.append(pd.DataFrame(columns, index=index))
        return [pd.concat(parts).loc[self.table.index] for parts in found.values()]


def check_same_tests(outcomes: list[Outcome]) -> list[str]:
    """Return the targets that all runs have.

    Raises:
        SerError: naming what differs, if one has other utterances, labels or folds than the first.
    """
    first = outcomes[0]
    others = sorted({metric for one in outcomes for metric in one.metrics.values()} - set(METRIC))
    if others:
        raise SerError(
            f"runs that are judged by {', '.join(others)} cannot be compared, only by {', '.join(METRIC)}: "
            "ser-train order says which puts utterances in order better"
        )
    targets = [
        target for target, metric in first.metrics.items() if all(one.metrics.get(target) == metric for one in outcomes)
    ]
    if not targets:
        found = "; ".join(f"{one.path} {', '.join(one.metrics)}" for one in outcomes)
        raise SerError(f"the runs have no target in common: {found}")
    for other in outcomes[1:]:
        check_same_labels(first, other, targets)
    return targets


def check_same_labels(first: Outcome, other: Outcome, targets: list[str]) -> None:
    """Check that two runs have the same test parts, and the same labels of some targets in them.

    Raises:
        SerError: naming what differs.
    """
    same = first.table.index.equals(other.table.index)
    names = [one.table.index.get_level_values("name") for one in (first, other)]
    for (mine, yours), (one, two) in ((names, (first, other)), (names[::-1], (other, first))) if not same else ():
        more = sorted(set(yours) - set(mine))
        if more:
            raise SerError(
                f"{two.path} has other utterances than {one.path}, {some(more)} more: "
                f"train it with protocol={one.path / 'protocol.json'}"
            )
    hashes = [one.folder.protocol.sha256[:12] for one in (first, other)]
    if hashes[0] != hashes[1] or not same:
        found = f"hash {hashes[1]}…, expected {hashes[0]}…" if hashes[0] != hashes[1] else "not all were trained"
        raise SerError(
            f"{other.path} has other folds than {first.path}, {found}: "
            f"train it with protocol={first.path / 'protocol.json'}"
        )
    for target in targets:
        labels, others = first.table[target], other.table[target]
        equal = np.asarray(labels == others)
        if first.metrics[target] in OF_NUMBERS:
            equal = np.isclose(labels, others, equal_nan=True)
        if not equal.all():
            raise SerError(
                f"{other.path} has other labels than {first.path}: {target} of {int((~equal).sum())} utterances, e.g. "
                f"of {labels.index[~equal][0][0]} {others[~equal].iloc[0]}, expected {labels[~equal].iloc[0]}: "
                "train both on one store"
            )


def check_seeds(group: list[Outcome]) -> None:
    """Check that runs are one method, trained with other seeds.

    Raises:
        SerError: if they have a seed in common, or differ in another setting, which is named.
    """
    first, seen = group[0], dict.fromkeys(group[0].seeds, group[0])
    for other in group[1:]:
        settings = [
            {**one.folder.config.to_dict(), "features": one.folder.note.get("features")} for one in (first, other)
        ]
        different = [
            key for key in settings[0] if key not in NOT_OF_A_MODEL and settings[0][key] != settings[1].get(key)
        ]
        if different:
            raise SerError(
                f"{other.path} differs from {first.path} in {', '.join(different)}: the runs of a group "
                "(--seeds) differ in their seeds alone"
            )
        for seed in other.seeds:
            if seed in seen:
                raise SerError(
                    f"{other.path} has the seed {seed}, as {seen[seed].path} has: the runs of a group have other seeds"
                )
        seen |= dict.fromkeys(other.seeds, other)


@dataclass(frozen=True)
class Tally:
    """What a system reaches on a target.

    Attributes:
        metric: by name.
        sums: per run and speaker, from which the metric is computed, (runs, speakers, …).
        folds: the metric of each fold, mean over runs.
        without: the metric without each of the trainings; empty where there is one.
    """

    metric: Metric
    sums: Floats
    folds: Floats
    without: Floats

    def values(self, weights: Floats) -> Floats:
        """Return the metric, mean over runs, with so many of each speaker, (n, speakers): (n,)."""
        return np.mean([METRIC[self.metric](np.tensordot(weights, sums, axes=1)) for sums in self.sums], axis=0)

    def less_after(self, swaps: Floats, other: Tally) -> Floats:
        """Return by how much it is better than another where the two change places for some speakers.

        Args:
            swaps: (n, speakers) of 0 and 1.
            other: the other one, with as many runs.

        Returns:
            The differences of the metric, mean over runs, (n,).
        """
        of, found = METRIC[self.metric], []
        for mine, theirs in zip(self.sums, other.sums, strict=True):
            moved = np.tensordot(swaps, theirs - mine, axes=1)
            found.append(of(mine.sum(axis=0) + moved) - of(theirs.sum(axis=0) - moved))
        return np.mean(found, axis=0)


@dataclass(frozen=True)
class Truth:
    """The labels of a target, who speaks, who is tested in which fold, and the categories, if these are names."""

    metric: Metric
    labels: Any
    speakers: Groups
    folds: Groups
    classes: pd.Index

    def tally(self, predicted: list[Any], without: list[Any], trainings: int | None = None) -> Tally:
        """Return what a system reaches.

        Args:
            predicted: by each of its runs.
            without: by its members, without one of them each; of runs instead the metric is averaged.
            trainings: to which as many of the runs belong each, one after another; a run each when absent.
        """
        of = METRIC[self.metric]
        sums = np.stack([self._sums(one, self.speakers) for one in predicted])
        folds = np.mean([of(self._sums(one, self.folds)) for one in predicted], axis=0)
        count = len(predicted) if trainings is None else trainings
        if count > 1:
            alone = of(sums.sum(axis=1)).reshape(count, -1).mean(axis=1)
            left = (alone.sum() - alone) / (len(alone) - 1)
        else:
            left = np.array([float(of(self._sums(one, self.speakers).sum(axis=0))) for one in without])
        return Tally(self.metric, sums, folds, left)

    def _sums(self, predicted: Any, groups: Groups) -> Floats:
        count = int(groups.max()) + 1
        if self.metric == "CCC":
            there = np.isfinite(self.labels)
            return concordance_sums(self.labels[there], np.asarray(predicted, float)[there], groups[there], count)
        there = self.labels != ""
        true, chosen = (self.classes.get_indexer(names[there]) for names in (self.labels, np.asarray(predicted)))
        return choice_sums(true, chosen, len(self.classes), groups[there], count)
