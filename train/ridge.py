"""The baseline that every model has to beat: a ridge on mean-pooled states of one layer.

For each fold and target, layer and penalty are those with the best dev score of a ridge fitted on the training part;
the ridge that is tested is then fitted on train and dev together. The test part is predicted once.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from train.examples import Examples
from train.loop import Score
from train.splits import Fold

PENALTIES = np.logspace(0, 5, 11)
Floats = npt.NDArray[np.float64]


def ridge_predictions(examples: Examples, folds: list[Fold], score: Score) -> list[torch.Tensor]:
    """Return what the baseline predicts for the test part of each fold, (rows, outputs)."""
    pooled = examples.states.pooled(examples.names)[0].astype(np.float64)  # (utterances, layers, dim)
    return [_predict_fold(pooled, examples, fold, score) for fold in folds]


def _predict_fold(pooled: Floats, examples: Examples, fold: Fold, score: Score) -> torch.Tensor:
    train, dev, test = (examples.rows(names).numpy() for names in (fold.train, fold.dev, fold.test))
    both = np.concatenate([train, dev])
    wanted = one_hot(examples)
    columns = [slice(None)] if examples.classes else [slice(i, i + 1) for i in range(wanted.shape[1])]
    predicted = np.zeros((len(test), wanted.shape[1]))
    layers = range(pooled.shape[1])
    tried = [fit_ridges(pooled[train, layer], wanted[train], pooled[dev, layer]) for layer in layers]
    for column in columns:
        true = examples.targets[dev] if examples.classes else examples.targets[dev][:, column]
        _, layer, penalty = max(
            (score(true, torch.from_numpy(on_dev[:, column])), layer, penalty)
            for layer in layers
            for penalty, on_dev in enumerate(tried[layer])
        )
        fitted = fit_ridges(pooled[both, layer], wanted[both][:, column], pooled[test, layer])
        predicted[:, column] = fitted[penalty]
    return torch.from_numpy(predicted).float()


def one_hot(examples: Examples) -> Floats:
    """Return what the ridge is fitted to: the targets, or one column per category."""
    if examples.classes:
        return np.eye(len(examples.classes))[examples.targets.numpy()]
    return examples.targets.numpy().astype(np.float64)


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
