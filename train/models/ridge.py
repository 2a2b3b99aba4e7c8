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
MOST_BYTES = 2**30
"""Of the means that are held at once: those of as many layers, and of one at least."""
Floats = npt.NDArray[np.float64]


def ridge_predictions(examples: Examples, fold: Fold) -> dict[str, torch.Tensor]:
    """Return what the baseline predicts for the test part of a fold, of each task, (utterances, outputs)."""
    means = Means(examples, MOST_BYTES)
    return {task: _predict(examples, means, task, goal, fold) for task, goal in examples.goals.items()}


class Means:
    """The mean over time of every utterance, by layer; NaN of those that lack the feature.

    Args:
        examples: of whose first stream it is.
        most_bytes: of them that are held at once: those of as many layers, and of one at least.
    """

    def __init__(self, examples: Examples, most_bytes: int) -> None:
        self._names, self._source, lacking = examples.names, examples.clock.source, examples.clock.lacking
        self._there = [row for row, name in enumerate(self._names) if name not in lacking]
        self.layers, dim = self._source.count, self._source.spec.dim
        at_once = min(self.layers, max(1, most_bytes // (4 * len(self._names) * dim)))
        self._held, self._first = np.full((at_once, len(self._names), dim), np.nan, np.float32), self.layers

    def of(self, layer: int) -> npt.NDArray[np.float32]:
        """Return those of one layer, (utterances, dim), which are there until another one is asked for."""
        if not 0 <= layer - self._first < len(self._held):
            self._first = layer - layer % len(self._held)
            for i in range(0, len(self._there), AT_ONCE):
                rows = self._there[i : i + AT_ONCE]
                mean, _ = self._source.pooled([self._names[row] for row in rows])
                some = mean[:, self._first : self._first + len(self._held)].swapaxes(0, 1)
                self._held[: len(some), rows] = some
        return self._held[layer - self._first]


def _predict(examples: Examples, means: Means, task: str, goal: Goal, fold: Fold) -> torch.Tensor:
    targets = goal.labels(examples.targets[task]).numpy()
    dev, test = examples.rows(fold.dev), examples.rows(fold.test)
    wanted = _one_hot(targets, goal.outputs) if targets.ndim == 1 else targets[:, : goal.outputs].astype(np.float64)
    predicted = np.zeros((len(test), goal.outputs))
    for columns, tried in _ridges_on_dev(examples, means, wanted, fold, one_target=targets.ndim == 1):
        best = max(
            (_score(goal, targets, dev, on_dev[:, columns], columns), layer, penalty)
            for layer, ridges in enumerate(tried)
            for penalty, on_dev in enumerate(ridges)
        )
        both = _labelled(wanted[:, columns], np.concatenate([examples.rows(fold.train), dev]))
        inputs, unseen = (means.of(best[1])[rows].astype(np.float64) for rows in (both, test))
        predicted[:, columns] = fit_ridges(inputs, wanted[both][:, columns], unseen)[best[2]]
    numbers = targets.ndim > 1  # within their range, as those of a model; scores of categories have none
    return torch.from_numpy(predicted.clip(0, 1) if numbers else predicted).float()


def _ridges_on_dev(
    examples: Examples, means: Means, wanted: Floats, fold: Fold, one_target: bool
) -> Iterator[tuple[Ints, list[Floats]]]:
    """Yield for each target its columns, and what ridges on each layer predict for dev, (penalties, rows, columns)."""
    fitted: dict[bytes, list[Floats]] = {}
    for columns in [np.arange(wanted.shape[1])] if one_target else np.arange(wanted.shape[1])[:, None]:
        train = _labelled(wanted[:, columns], examples.rows(fold.train))
        if train.tobytes() not in fitted:  # targets that the same utterances have share the decomposition
            dev = examples.rows(fold.dev)
            fitted[train.tobytes()] = [
                fit_ridges(of[train].astype(float), np.nan_to_num(wanted[train]), of[dev].astype(float))
                for of in map(means.of, range(means.layers))
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


def fit_ridges(inputs: Floats, targets: Floats, unseen: Floats) -> Floats:
    """Return what ridges of all `PENALTIES` predict for ``unseen``, (penalties, rows, targets).

    Args:
        inputs: (rows, dim), standardised here by their own mean and standard deviation; rows of NaN do not count.
        targets: (rows, targets).
        unseen: (rows, dim); of rows of NaN the mean target is predicted.
    """
    if not (known := ~np.isnan(inputs[:, 0])).any():
        return np.broadcast_to(targets.mean(axis=0), (len(PENALTIES), len(unseen), targets.shape[1])).copy()
    if not known.all():
        inputs, targets = inputs[known], targets[known]
    mean, sd = inputs.mean(axis=0), inputs.std(axis=0) + 1e-8
    left, singular, right = np.linalg.svd((inputs - mean) / sd, full_matrices=False)
    shrunk = singular / (singular**2 + PENALTIES[:, None])
    weights = right.T @ (shrunk[..., None] * (left.T @ (targets - targets.mean(axis=0))))
    scaled = (unseen - mean) / sd
    scaled[np.isnan(unseen[:, 0])] = 0
    return scaled @ weights + targets.mean(axis=0)
