"""The baseline that every model has to beat: a ridge on the mean over time of one layer.

For each fold and target, layer and penalty are those with the best dev score of a ridge fitted on the training part;
the ridge that is tested is then fitted on train and dev together. The test part is predicted once.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from featurestore.format.plan import Ints
from train.examples.examples import Examples
from train.reading.sources import AT_ONCE
from train.splits import Fold
from train.tasks import Goal

PENALTIES = np.logspace(0, 5, 11)
Floats = npt.NDArray[np.float64]


def ridge_predictions(examples: Examples, fold: Fold) -> dict[str, torch.Tensor]:
    """Return what the baseline predicts for the test part of a fold, of each task, (utterances, outputs)."""
    pooled = _pooled(examples)
    return {task: _predict(examples, pooled, task, goal, fold) for task, goal in examples.goals.items()}


def _predict(examples: Examples, pooled: npt.NDArray[np.float32], task: str, goal: Goal, fold: Fold) -> torch.Tensor:
    targets = goal.labels(examples.targets[task]).numpy()
    dev, test = examples.rows(fold.dev), examples.rows(fold.test)
    wanted = _one_hot(targets, goal.outputs) if targets.ndim == 1 else targets[:, : goal.outputs].astype(np.float64)
    predicted = np.zeros((len(test), goal.outputs))
    for columns, tried in _ridges_on_dev(examples, pooled, wanted, fold, one_target=targets.ndim == 1):
        best = max(
            (_score(goal, targets, dev, on_dev[:, columns], columns), layer, penalty)
            for layer, ridges in enumerate(tried)
            for penalty, on_dev in enumerate(ridges)
        )
        both = _labelled(wanted[:, columns], np.concatenate([examples.rows(fold.train), dev]))
        inputs, unseen = (pooled[rows, best[1]].astype(np.float64) for rows in (both, test))
        predicted[:, columns] = fit_ridges(inputs, wanted[both][:, columns], unseen)[best[2]]
    numbers = targets.ndim > 1  # within their range, as those of a model; scores of categories have none
    return torch.from_numpy(predicted.clip(0, 1) if numbers else predicted).float()


def _ridges_on_dev(
    examples: Examples, pooled: npt.NDArray[np.float32], wanted: Floats, fold: Fold, one_target: bool
) -> Iterator[tuple[Ints, list[Floats]]]:
    """Yield for each target its columns, and what ridges on each layer predict for dev, (penalties, rows, columns)."""
    fitted: dict[bytes, list[Floats]] = {}
    for columns in [np.arange(wanted.shape[1])] if one_target else np.arange(wanted.shape[1])[:, None]:
        train = _labelled(wanted[:, columns], examples.rows(fold.train))
        if train.tobytes() not in fitted:  # targets that the same utterances have share the decomposition
            dev = examples.rows(fold.dev)
            fitted[train.tobytes()] = [
                fit_ridges(pooled[train, layer].astype(float), np.nan_to_num(wanted[train]), pooled[dev, layer])
                for layer in range(pooled.shape[1])
            ]
        yield columns, fitted[train.tobytes()]


def _score(goal: Goal, targets: npt.NDArray[Any], dev: Ints, predicted: Floats, columns: Ints) -> float:
    """Return the metric of one target on dev."""
    output = np.zeros((len(dev), goal.outputs))
    output[:, columns] = predicted
    figures = goal.figures(torch.from_numpy(targets[dev]), torch.from_numpy(output), np.zeros(len(dev), np.int64))
    sums, metric = list(figures.values())[0 if targets.ndim == 1 else int(columns[0])]
    return float(metric(sums[0]))


def _labelled(wanted: Floats, rows: Ints) -> Ints:
    return rows[np.isfinite(wanted[rows]).all(axis=1)]


def _one_hot(classes: npt.NDArray[Any], count: int) -> Floats:
    return np.where(classes[:, None] < 0, np.nan, np.eye(count)[classes])


def _pooled(examples: Examples) -> npt.NDArray[np.float32]:
    """Return the mean over time of every utterance, (utterances, layers, dim)."""
    names, source = examples.names, examples.clock.source
    return np.concatenate([source.pooled(names[i : i + AT_ONCE])[0] for i in range(0, len(names), AT_ONCE)])


def fit_ridges(inputs: Floats, targets: Floats, unseen: Floats) -> Floats:
    """Return what ridges of all `PENALTIES` predict for ``unseen``, (penalties, rows, targets).

    Args:
        inputs: (rows, dim), standardised here by their own mean and standard deviation.
        targets: (rows, targets).
        unseen: (rows, dim).
    """
    mean, sd = inputs.mean(axis=0), inputs.std(axis=0) + 1e-8
    left, singular, right = np.linalg.svd((inputs - mean) / sd, full_matrices=False)
    shrunk = singular / (singular**2 + PENALTIES[:, None])
    weights = right.T @ (shrunk[..., None] * (left.T @ (targets - targets.mean(axis=0))))
    return (unseen - mean) / sd @ weights + targets.mean(axis=0)
