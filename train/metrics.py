"""CCC and UAR over whole splits, with bootstrap intervals that resample speakers.

Both are computed from sums per speaker, so that a resample is a weighted sum and ten thousand cost nothing.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Groups = npt.NDArray[np.int64]
Metric = Literal["CCC", "UAR"]
RESAMPLES = 10_000


def ccc(true: npt.ArrayLike, predicted: npt.ArrayLike) -> float:
    """Return the concordance correlation coefficient, in [-1, 1], with population moments.

    2 cov / (var_true + var_predicted + (mean_true - mean_predicted)^2). Source: L. I-K. Lin (1989), A concordance
    correlation coefficient to evaluate reproducibility.

    >>> round(ccc([1, 2, 3], [1, 2, 4]), 4)
    0.8571
    """
    true = np.asarray(true, np.float64)
    return float(ccc_of(concordance_sums(true, np.asarray(predicted, np.float64), np.zeros(len(true), int), 1)[0]))


def concordance_sums(true: Floats, predicted: Floats, groups: npt.NDArray[Any], count: int) -> Floats:
    """Return per group the sums from which `ccc_of` computes the CCC, (groups, 6).

    Args:
        true: (utterances,).
        predicted: (utterances,).
        groups: the group's number of each utterance, from 0.
        count: of groups.
    """
    centre = (
        true.mean() if len(true) else 0.0
    )  # the CCC does not change when both move, and sums of small numbers are exact
    x, y = true - centre, predicted - centre
    columns = np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=1)
    sums = np.zeros((count, columns.shape[1]))
    np.add.at(sums, groups, columns)
    return sums


def ccc_of(sums: Floats) -> Floats:
    """Return the CCC of sums (..., 6); 0 where neither variable varies and their means agree, or there is nothing."""
    n, x, y, xx, yy, xy = np.moveaxis(sums, -1, 0)
    n = np.maximum(n, 1)
    spread = xx / n - (x / n) ** 2 + yy / n - (y / n) ** 2 + ((x - y) / n) ** 2
    return np.divide(2 * (xy / n - x * y / n**2), spread, out=np.zeros_like(spread), where=spread > 0)


def confusion_counts(
    true: npt.NDArray[Any], predicted: npt.NDArray[Any], classes: int, groups: npt.NDArray[Any], count: int
) -> Floats:
    """Return per group the confusion matrix (groups, classes, classes), true classes in rows."""
    counts = np.zeros((count, classes, classes))
    np.add.at(counts, (groups, true, predicted), 1)
    return counts


def uar_of(counts: Floats) -> Floats:
    """Return the unweighted average recall, in [0, 1], of confusion matrices (..., classes, classes).

    Classes that do not occur are not averaged over.

    >>> float(uar_of(np.array([[3.0, 1.0], [0.0, 2.0]])))
    0.875
    """
    support = counts.sum(axis=-1)
    recall = np.diagonal(counts, axis1=-2, axis2=-1) / np.where(support > 0, support, 1)
    return np.asarray(recall.sum(axis=-1) / np.maximum((support > 0).sum(axis=-1), 1))


def resample_weights(groups: int, seed: int = 0, resamples: int = RESAMPLES) -> Floats:
    """Return how often each group is drawn in each bootstrap resample, (resamples, groups)."""
    return np.random.default_rng(seed).multinomial(groups, np.full(groups, 1 / groups), resamples).astype(np.float64)


def interval(value: float, resampled: Floats) -> dict[str, float]:
    """Return ``value`` with ``low`` and ``high``, the 2.5th and 97.5th percentile of its resampled values."""
    low, high = np.percentile(resampled, [2.5, 97.5])
    return {"value": float(value), "low": float(low), "high": float(high)}
