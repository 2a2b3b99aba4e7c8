"""From predictions on the test parts to figures with intervals, against the baseline and fold by fold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from train.examples import Examples
from train.metrics import (
    Floats,
    ccc,
    ccc_of,
    concordance_sums,
    confusion_counts,
    interval,
    resample_weights,
    uar_of,
)
from train.splits import Fold

Groups = npt.NDArray[np.int64]
Figure = dict[str, Any]


def selection_score(examples: Examples) -> Callable[[torch.Tensor, torch.Tensor], float]:
    """Return the score that selects: the mean CCC over the targets, or the UAR of the categories."""

    def mean_ccc(true: torch.Tensor, predicted: torch.Tensor) -> float:
        return float(np.mean([ccc(t, p) for t, p in zip(true.T, predicted.T, strict=True)]))

    def uar(true: torch.Tensor, predicted: torch.Tensor) -> float:
        everyone = np.zeros(len(true), np.int64)
        classes = predicted.argmax(dim=1).numpy()
        return float(uar_of(confusion_counts(true.numpy(), classes, len(examples.classes), everyone)[0]))

    return uar if examples.classes else mean_ccc


def compare(
    examples: Examples, folds: list[Fold], predictions: dict[str, list[torch.Tensor]]
) -> dict[str, dict[str, Figure]]:
    """Return the figures of every system and of the differences to the first one.

    Args:
        examples: the data.
        folds: the divisions.
        predictions: of each system the outputs for the test part of each fold, (rows, outputs).

    Returns:
        For each system, and for ``FIRST - OTHER``, and for each target and their ``mean``: ``value``, ``low`` and
        ``high`` of the metric over the test parts of all folds together (95 % bootstrap interval, resampling
        speakers; paired in differences), and ``folds``, the metric of each fold alone.
    """
    rows = [examples.rows(fold.test) for fold in folds]
    together = torch.cat(rows)
    groups = speaker_numbers(examples.table.iloc[together.tolist()])
    weights = resample_weights(int(groups.max()) + 1)
    figures: dict[str, dict[str, tuple[float, Floats, list[float]]]] = {}
    for system, outputs in predictions.items():
        pooled = _sums(examples, examples.targets[together], torch.cat(outputs), groups)
        by_fold = [
            _sums(examples, examples.targets[r], o, np.zeros(len(r), np.int64))
            for r, o in zip(rows, outputs, strict=True)
        ]
        figures[system] = {
            target: (
                float(of(sums.sum(axis=0))),
                of(np.tensordot(weights, sums, axes=1)),
                [float(of(fold[target][0][0])) for fold in by_fold],
            )
            for target, (sums, of) in pooled.items()
        }
        if len(pooled) > 1:
            figures[system]["mean"] = _mean(list(figures[system].values()))
    first, *others = figures
    for other in others:
        figures[f"{first} - {other}"] = {t: _minus(figures[first][t], figures[other][t]) for t in figures[first]}
    return {
        system: {
            target: {**interval(value, resampled), "folds": by_fold}
            for target, (value, resampled, by_fold) in of_system.items()
        }
        for system, of_system in figures.items()
    }


def speaker_numbers(table: pd.DataFrame) -> Groups:
    """Return the number of each utterance's speaker; each utterance its own where speakers are not known."""
    speakers = table["speaker"].astype(str) if "speaker" in table else pd.Series("", table.index)
    owners = [speaker or f"utterance {name}" for name, speaker in speakers.items()]
    return np.unique(owners, return_inverse=True)[1].astype(np.int64)


def predictions_table(
    examples: Examples, folds: list[Fold], predictions: dict[str, list[torch.Tensor]]
) -> pd.DataFrame:
    """Return true and predicted values by name, in the units of the dataset; categories by their names."""
    parts = []
    for number, fold in enumerate(folds):
        part = pd.DataFrame({"fold": number}, index=pd.Index(fold.test, name="name"))
        rows = examples.rows(fold.test)
        if "speaker" in examples.table:
            part["speaker"] = examples.table["speaker"].loc[fold.test]
        if examples.classes:
            part["emotion"] = examples.table["emotion"].loc[fold.test]
            for system, outputs in predictions.items():
                part[f"emotion_{system}"] = [examples.classes[i] for i in outputs[number].argmax(dim=1).tolist()]
        for column, (target, (low, high)) in enumerate(examples.ranges.items()):
            part[target] = (low + (high - low) * examples.targets[rows, column].double()).numpy()
            for system, outputs in predictions.items():
                part[f"{target}_{system}"] = (low + (high - low) * outputs[number][:, column].double()).numpy()
        parts.append(part)
    return pd.concat(parts)


def _sums(
    examples: Examples, true: torch.Tensor, predicted: torch.Tensor, groups: Groups
) -> dict[str, tuple[Floats, Callable[[Floats], Floats]]]:
    """Return for each target the sums per group, and the metric that is computed from such sums."""
    if examples.classes:
        classes = predicted.argmax(dim=1).numpy()
        return {"emotion": (confusion_counts(true.numpy(), classes, len(examples.classes), groups), uar_of)}
    pairs = zip(examples.ranges, true.double().numpy().T, predicted.double().numpy().T, strict=True)
    return {target: (concordance_sums(t, p, groups), ccc_of) for target, t, p in pairs}


def _mean(figures: list[tuple[float, Floats, list[float]]]) -> tuple[float, Floats, list[float]]:
    values, resampled, by_fold = zip(*figures, strict=True)
    return float(np.mean(values)), np.mean(resampled, axis=0), np.mean(by_fold, axis=0).tolist()


def _minus(a: tuple[float, Floats, list[float]], b: tuple[float, Floats, list[float]]) -> Any:
    return a[0] - b[0], a[1] - b[1], [x - y for x, y in zip(a[2], b[2], strict=True)]
