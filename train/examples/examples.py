"""The examples: utterances of a store that have every feature and label asked for, joined by name."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import torch

from featurestore.access.batches import read_ahead
from featurestore.format.plan import Ints
from featurestore.shared.errors import SerError
from train.config import TrainConfig
from train.examples.goals import goals_of
from train.examples.hearing import Hearing, lacking_lines, without_features
from train.examples.kept import Kept
from train.maps import read_map
from train.numerics.align import align_repeated
from train.reading.batch import Batch, StreamBatch
from train.reading.corpora import AnyStore
from train.reading.labels import clean_names, grouped, some
from train.streams import resolve, source_of
from train.tasks import Goal


@dataclass(frozen=True)
class Examples:
    """What a model learns from, or predicts.

    Attributes:
        store: that they come from.
        streams: what is heard, by name; the first gives the clock.
        own_clocks: whether the others keep theirs.
        names: of the utterances; a row is a position in it.
        table: the utterance table of these.
        goals: the tasks, by name.
        targets: of each task.
        skipped: utterances of the store that are not among the examples, with the reason.
        remarks: what is odd about them, a line each.
        kept: their frames that stay on a device.
    """

    store: AnyStore
    streams: dict[str, Hearing]
    own_clocks: bool
    names: list[str]
    table: pd.DataFrame
    goals: dict[str, Goal]
    targets: dict[str, torch.Tensor]
    skipped: dict[str, str] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    kept: Kept = field(default_factory=Kept)

    @property
    def clock(self) -> Hearing:
        """The stream that gives the clock."""
        return next(iter(self.streams.values()))

    @property
    def metrics(self) -> dict[str, str]:
        """The metric of each target."""
        return {target: metric for goal in self.goals.values() for target, metric in goal.metrics.items()}

    def of_fold(self, fold: int) -> Examples:
        """Return them with what the models of a fold are trained by, where a task has targets for each fold."""
        goals = {name: goal.of_fold(fold) for name, goal in self.goals.items()}
        if all(goals[name] is goal for name, goal in self.goals.items()):
            return self
        return replace(self, goals=goals, targets={name: goal.targets(self.table) for name, goal in goals.items()})

    def lacks(self, name: str) -> str:
        """Return the streams that an utterance lacks, in words; empty if it has all."""
        return ", ".join(stream for stream, hearing in self.streams.items() if name in hearing.lacking)

    def rows(self, names: Sequence[str]) -> Ints:
        """Return the rows of some names.

        Raises:
            SerError: if they are not all among the examples.
        """
        rows = np.asarray(self._index.get_indexer(pd.Index(names)), np.int64)
        absent = [names[place] for place in np.flatnonzero(rows < 0).tolist()]
        if absent:
            why = self.skipped.get(absent[0], "the store has no such utterance")
            raise SerError(
                f"{self.store.path}: {some(absent)} cannot be used: {why}; expected their features and labels: "
                "extract them again, or leave them out"
            )
        return rows

    @cached_property
    def _index(self) -> pd.Index:
        return pd.Index(self.names)

    @cached_property
    def lengths(self) -> Ints:
        """Frames of the first stream, by row."""
        return self.clock.lengths(np.array([self.store.index[name] for name in self.names], np.int64))

    def batches(self, order: Sequence[Ints]) -> Iterator[Batch]:
        """Yield a batch for each group of rows, read ahead in threads."""
        return read_ahead(self.batch, order, threads=16 if self.store.remote else 1)

    def batch(self, rows: Ints) -> Batch:
        """Read a batch."""
        names = [self.names[row] for row in rows.tolist()]
        chosen = torch.from_numpy(rows)
        targets = {task: targets[chosen] for task, targets in self.targets.items()}
        clock = self._read(self.clock, names, None)
        streams = {}
        for name, hearing in self.streams.items():
            streams[name] = clock if hearing is self.clock else self._read(hearing, names, clock)
        return Batch(rows, streams, targets)

    def windows(self, rows: Ints, number: int, megabytes: float) -> list[Ints]:
        """Return rows in parts that are read one after another, each of about so many megabytes of the store.

        Into which part an utterance falls depends on its name and the number of the pass alone: all models that pass
        the store together read the same part at the same time, and each shuffles its own rows of it.

        Args:
            rows: to be divided; a part of less than two of them goes with the next one.
            number: of the pass.
            megabytes: of a part.
        """
        count = self.count_windows(megabytes)
        if count < 2:
            return [rows]
        parts = np.array([zlib.crc32(f"{number} {self.names[row]}".encode()) % count for row in rows.tolist()])
        found, left = [], rows[:0]
        for part in range(count):
            left = np.concatenate([left, rows[parts == part]])
            if len(left) > 1:
                found.append(left)
                left = rows[:0]
        if len(left):
            found[-1:] = [np.concatenate([*found[-1:], left])]
        return found

    def count_windows(self, megabytes: float) -> int:
        """Return how many windows of about so many megabytes the store has."""
        return max(1, math.ceil(self.stored_bytes / (megabytes * 1e6)))

    @property
    def stored_bytes(self) -> int:
        """What is stored of all that is read of the utterances."""
        return sum(self.bytes_by_stream)

    @cached_property
    def bytes_by_stream(self) -> list[int]:
        """The same of each stream."""
        having = [hearing.having(self.names) for hearing in self.streams.values()]
        rows = [np.array([self.store.index[name] for name in names], np.int64) for names in having]
        return [
            int(hearing.lengths(of).sum()) * hearing.front.frame_bytes(hearing.source)
            for hearing, of in zip(self.streams.values(), rows, strict=True)
        ]

    def keep_on(self, device: torch.device) -> None:
        """Keep what is stored of every utterance that is read on a device, if it has room for all of it."""
        self.kept.stay_on(device, self.stored_bytes)

    def _read(self, hearing: Hearing, names: list[str], clock: StreamBatch | None) -> StreamBatch:
        having = hearing.having(names)
        frames = self.kept.read(hearing.front, hearing.source, having) if having else []
        lengths = [one.values.shape[1] for one in frames]
        if clock is None or self.own_clocks:
            there = None if len(having) == len(names) else torch.tensor([name not in hearing.lacking for name in names])
            return StreamBatch(frames, lengths, None, there)
        aligned = []
        for name, one, length in zip(names, frames, clock.lengths, strict=True):
            if one.values.shape[1] == 1:
                aligned.append(align_repeated(length))
            else:
                times, clock_times = hearing.source.part.times(name), self.clock.source.part.times(name)
                aligned.append(hearing.front.align(one, times, clock_times))
        return StreamBatch(frames, clock.lengths, aligned)


def load_examples(
    store: AnyStore, config: TrainConfig, goals: dict[str, Goal] | None = None, labelled: bool | None = None
) -> Examples:
    """Return the utterances of a store that have what ``config`` asks for.

    Args:
        store: that they come from.
        config: what is heard and predicted.
        goals: those of a run; when absent, what the labels of the store give.
        labelled: whether the utterances must have labels; when absent only if there are no ``goals``.

    Raises:
        SerError: if the store lacks a feature or a label, nothing is left, or what there is cannot be learned from.
    """
    streams = resolve(config.streams, store, config.fusion, config.width)
    table, remarks = clean_names(store.utterances)
    owners = {"speaker": _column(table, "speaker"), "corpus": _column(table, "dataset")}
    sources = {name: source_of(stream, store, owners) for name, stream in streams.items()}
    failed = {name: source.part.failed for name, source in sources.items()}
    skipped = without_features(failed, config.fusion)
    labelled = goals is None if labelled is None else labelled
    lost: dict[str, str] = {}
    if labelled and config.categories is not None:
        table, lost = read_map(config.categories).apply(table, store.dataset)
    if goals is None:
        goals = goals_of(config, table, store.ranges, str(store.path))
    if labelled:
        found, counted = _without_labels(goals, table, config.missing)
        skipped |= {name: lost.get(name, why) for name, why in found.items()}
        remarks += counted
    names = [name for name in table.index if name not in skipped]
    if not names:
        raise SerError(f"{store.path}: nothing to train on: {'; '.join(grouped(skipped.items()))}")
    hearings = {
        name: Hearing(streams[name], one, frozenset(failed[name]) & set(names)) for name, one in sources.items()
    }
    remarks += lacking_lines(hearings, names)
    table = table.loc[names]
    targets = {name: goal.targets(table) for name, goal in goals.items()} if labelled else {}
    examples = Examples(store, hearings, config.fusion.own_clocks, names, table, goals, targets, skipped, remarks)
    _check_clocks(examples)
    return examples


def _column(table: pd.DataFrame, name: str) -> pd.Series:
    return table[name] if name in table else pd.Series("", table.index, dtype=str)


def _without_labels(goals: dict[str, Goal], table: pd.DataFrame, missing: str) -> tuple[dict[str, str], list[str]]:
    """Return the utterances that lack labels, with the reason, and a line for each target that some lack."""
    lacking: dict[str, np.ndarray[Any, np.dtype[np.bool_]]] = {}
    for goal in goals.values():
        lacking |= {target: there.numpy() for target, there in goal.missing(goal.targets(table)).items()}
    skipped: dict[str, str] = {}
    if missing == "skip":
        for target, absent in lacking.items():
            skipped |= dict.fromkeys(table.index[absent], f"no label {target}")
        return skipped, []
    without_any = np.logical_and.reduce(list(lacking.values()))
    skipped = dict.fromkeys(table.index[without_any], "no label of any target")
    counts = {target: int((absent & ~without_any).sum()) for target, absent in lacking.items()}
    return skipped, [
        f"label {target} is missing for {count} of {int((~without_any).sum())} utterances: they do not count for it"
        for target, count in counts.items()
        if count
    ]


def _check_clocks(examples: Examples) -> None:
    """Check that streams can be brought onto the clock of the first.

    Raises:
        SerError: if a feature has many frames and no clock, or the clock is of one frame.
    """
    first, *others = examples.streams.items()
    if examples.own_clocks:
        return
    rows = np.array([examples.store.index[name] for name in examples.names], np.int64)
    for name, hearing in others:
        if (hearing.lengths(rows) == 1).all():
            continue
        if (first[1].lengths(rows) == 1).all():
            raise SerError(
                f"streams.{first[0]} is the first and gives the clock, and {first[1].source.name} has one frame an "
                f"utterance, {hearing.source.name} has many: name streams.{name} first"
            )
        for lacking, stream in ((name, hearing), (first[0], first[1])):
            if not stream.has_clock:
                raise SerError(
                    f"streams.{lacking}: {stream.source.name} has no clock, so {name} and {first[0]} cannot meet in "
                    "time: take front=pooled, or fusion=attention with fusion.clocks=own"
                )
