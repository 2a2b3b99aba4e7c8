"""The figures of predictions that are there as a table, without the models that made them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from featurestore.shared.errors import SerError
from train.comparison.systems import MEAN
from train.config import TrainConfig
from train.numerics.metrics import (
    RESAMPLES,
    Floats,
    Groups,
    ccc_of,
    choice_sums,
    concordance_sums,
    resample_weights,
    uar_of,
)
from train.reading.labels import as_names, speaker_numbers

Of = Callable[[Floats], Floats]
Resampled = tuple[float, Floats]
"""A metric, and what it is in each bootstrap resample of the speakers."""


def read_table(file: Path, metrics: dict[str, str]) -> pd.DataFrame:
    """Return the predictions of a run by name, in which names, speakers and categories may be any texts, such as NA.

    Args:
        file: predictions.csv.
        metrics: CCC or UAR, by target.
    """
    words = [target for target, metric in metrics.items() if metric == "UAR"]
    texts = ["name", "speaker", *words, *(f"{target}_model" for target in words)]
    empty = {target: [""] for target in metrics}
    return pd.read_csv(file, dtype=dict.fromkeys(texts, str), keep_default_na=False, na_values=empty, index_col="name")


def table_figures(table: pd.DataFrame, metrics: dict[str, str]) -> dict[str, Resampled]:
    """Return the metric of each target, and of several targets their ``mean``, in [-1, 1].

    Tables with the same speakers are resampled alike, so that the difference of two is paired.

    Args:
        table: with ``TARGET``, ``TARGET_model`` and, if known, ``speaker``, as predictions.csv has them.
        metrics: CCC or UAR, by target.

    Returns:
        By target; NaN where no utterance has a label.
    """
    found = {target: _resampled(table[table[target].notna()], target, metric) for target, metric in metrics.items()}
    if len(found) > 1:
        values, resampled = zip(*found.values(), strict=True)
        found[MEAN] = float(np.mean(values)), np.mean(resampled, axis=0)
    return found


def check_tables(config: TrainConfig, what: str) -> None:
    """Check that all targets of a config are judged by what a table of predictions holds.

    Raises:
        SerError: if a task is judged by what raters say of pairs.
    """
    compared = [name for name, task in config.tasks.items() if task.compares]
    if compared:
        name = compared[0]
        raise SerError(f"{what} takes numbers and categories: tasks.{name} is a {config.tasks[name].name}")


def _resampled(table: pd.DataFrame, target: str, metric: str) -> Resampled:
    if not len(table):
        return np.nan, np.full(RESAMPLES, np.nan)
    groups = speaker_numbers(table)
    of, sums = _sums(metric, table[target], table[f"{target}_model"], groups)
    return float(of(sums.sum(axis=0))), of(np.tensordot(resample_weights(len(sums)), sums, axes=1))


def _sums(metric: str, true: pd.Series, predicted: pd.Series, groups: Groups) -> tuple[Of, Floats]:
    """Return the metric that is computed from sums, and those of each group."""
    count = int(groups.max()) + 1
    if metric == "CCC":
        return ccc_of, concordance_sums(true.to_numpy(float), predicted.to_numpy(float), groups, count)
    names, answers = as_names(true), as_names(predicted)
    classes = pd.Index(sorted({*names, *answers}))
    return uar_of, choice_sums(
        classes.get_indexer(pd.Index(names)), classes.get_indexer(pd.Index(answers)), len(classes), groups, count
    )
