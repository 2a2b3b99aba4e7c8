"""From the targets that are asked for to tasks."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from featurestore.shared.errors import SerError
from train.config import TrainConfig
from train.losses import Loss
from train.reading.labels import Scale, first_of
from train.tasks import Goal, Task
from train.tasks.classification import Classification
from train.tasks.regression import Regression

DIMENSIONS = ("V", "A", "D")
OWN = ("shard", "slot", "path", "duration", "name")
"""Columns of the table that are no labels."""


def goals_of(config: TrainConfig, table: pd.DataFrame, scales: Mapping[str, Scale], place: str) -> dict[str, Goal]:
    """Return what is to be predicted, by the names of the tasks.

    Args:
        config: what is asked for.
        table: of the utterances.
        scales: that the dataset declares, by column.
        place: the store, for messages.

    Raises:
        SerError: if the store lacks a label, or a loss fits none of the targets.
    """
    tasks = tasks_of(config, table, scales, place)
    columns = [column for task in tasks.values() for column in task.columns]
    _check(columns, table, place)
    return {name: task.learn(table, scales, place) for name, task in tasks.items()}


def tasks_of(config: TrainConfig, table: pd.DataFrame, scales: Mapping[str, Scale], place: str) -> dict[str, Task]:
    """Return the tasks by name: those of the config, or one for all numbers and one for each name among its targets."""
    if config.tasks:
        if config.targets is not None or config.loss is not None:
            raise SerError("found tasks beside targets or loss: give each task its own target and loss")
        return dict(config.tasks)
    targets = DIMENSIONS if config.targets is None else config.targets
    if not targets:
        raise SerError("targets=[] asks for nothing: expected columns of labels")
    _check(list(targets), table, place)
    numbers = tuple(target for target in targets if target in scales or target in DIMENSIONS)
    names = [target for target in targets if target not in numbers]
    tasks: dict[str, Task] = {}
    if numbers:
        tasks["regression"] = Regression(targets=numbers, **_loss_of(config.loss, "regression"))
    for target in names:
        tasks[target] = Classification(target=target, **_loss_of(config.loss, "classification"))
    if config.loss is not None and all(config.loss != task.loss for task in tasks.values()):  # type: ignore[attr-defined]
        raise SerError(f"loss={config.loss.name} is of a {config.loss.task}, found targets=[{','.join(targets)}]")
    return tasks


def _loss_of(loss: Loss | None, kind: str) -> dict[str, Loss]:
    return {"loss": loss} if loss is not None and loss.task == kind else {}


def _check(columns: list[str], table: pd.DataFrame, place: str) -> None:
    """Check that the store has all columns of labels, and each is asked for once."""
    twice = sorted({column for column in columns if columns.count(column) > 1})
    if twice:
        raise SerError(f"each target is expected once, found {', '.join(twice)} more than once")
    absent = [column for column in columns if column not in table]
    if absent:
        there = first_of([str(column) for column in table if column not in OWN], 12)
        raise SerError(f"{place} has no labels {', '.join(absent)}; it has {there or 'none'}")
