"""Metrics over whole splits, with bootstrap intervals that resample speakers.

All are computed from sums per speaker, so that a resample is a weighted sum and ten thousand cost nothing. Where there
is nothing to compute one from, it is NaN; CCC and UAR, which select, are 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Groups = npt.NDArray[np.int64]
Metric = Literal["CCC", "UAR", "pairwise_accuracy"]
RESAMPLES = 10_000
BINS = 15
"""Of the confidence, of equal width, in `ece_of`."""
OF_PROBABILITIES = ("ECE", "overconfidence")
"""Metrics that scores have not."""
NO_SPREAD = 1e-12
"""Of a mean square, below which a variance is the rounding of it."""


@dataclass(frozen=True)
class Measured:
    """What the metrics of a target are computed from.

    Attributes:
        sums: per group, (groups, …).
        metrics: by name, the one that selects first; each takes sums (..., …) and returns (...).
    """

    sums: Floats
    metrics: dict[str, Callable[[Floats], Floats]]

    def without_probabilities(self) -> Measured:
        """Return it without the metrics `OF_PROBABILITIES`."""
        return Measured(self.sums, {name: of for name, of in self.metrics.items() if name not in OF_PROBABILITIES})


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
    """Return per group the sums from which the metrics of numbers are computed, (groups, 8).

    They are those of 1, x, y, x^2, y^2, xy, |x - y| and (x - y)^2.

    Args:
        true: x, (utterances,).
        predicted: y, (utterances,).
        groups: the group's number of each utterance, from 0.
        count: of groups.
    """
    centre = true.mean() if len(true) else 0.0  # no metric changes when both move, and sums of small numbers are exact
    x, y = true - centre, predicted - centre
    columns = np.stack([np.ones_like(x), x, y, x * x, y * y, x * y, np.abs(x - y), (x - y) ** 2], axis=1)
    sums = np.zeros((count, columns.shape[1]))
    np.add.at(sums, groups, columns)
    return sums


def ccc_of(sums: Floats) -> Floats:
    """Return the CCC of sums (..., 8); 0 where neither variable varies and their means agree, or there is nothing."""
    n, x, y, xx, yy, xy = np.moveaxis(sums, -1, 0)[:6]
    n = np.maximum(n, 1)
    spread = xx / n - (x / n) ** 2 + yy / n - (y / n) ** 2 + ((x - y) / n) ** 2
    return np.divide(2 * (xy / n - x * y / n**2), spread, out=np.zeros_like(spread), where=spread > 0)


def pcc_of(sums: Floats) -> Floats:
    """Return Pearson's correlation coefficient, in [-1, 1], of sums (..., 8); NaN where a variable does not vary."""
    n, x, y, xx, yy, xy = np.moveaxis(sums, -1, 0)[:6]
    n = np.maximum(n, 1)
    return _shares(xy / n - x * y / n**2, np.sqrt(_variance(n, x, xx) * _variance(n, y, yy)))


def rmse_of(sums: Floats) -> Floats:
    """Return the root of the mean squared error of sums (..., 8); NaN where there is nothing."""
    return np.sqrt(_shares(sums[..., 7], sums[..., 0]))


def mae_of(sums: Floats) -> Floats:
    """Return the mean absolute error of sums (..., 8); NaN where there is nothing."""
    return _shares(sums[..., 6], sums[..., 0])


def r2_of(sums: Floats) -> Floats:
    """Return the coefficient of determination, at most 1, of sums (..., 8); NaN where the labels do not vary."""
    n = np.maximum(sums[..., 0], 1)
    return np.asarray(1 - _shares(sums[..., 7] / n, _variance(n, sums[..., 1], sums[..., 3])))


def _variance(n: Floats, total: Floats, squares: Floats) -> Floats:
    """Return population variances, 0 where they are nothing but rounding."""
    found = squares / n - (total / n) ** 2
    return np.where(found > NO_SPREAD * squares / n, found, 0.0)


def _shares(part: Floats, whole: Floats) -> Floats:
    """Return quotients, NaN where the whole is 0."""
    return np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=whole > 0)


def class_sums(true: npt.NDArray[Any], probabilities: Floats, groups: npt.NDArray[Any], count: int) -> Floats:
    """Return per group the sums from which the metrics of categories are computed, (groups, 3 classes + `BINS`).

    They are how often each class is recognised, how often it occurs, and how often it is predicted; and in each bin of
    the confidence (the largest probability) the sum of the confidence less the number of right predictions.

    Args:
        true: class numbers, (utterances,).
        probabilities: (utterances, classes).
        groups: the group's number of each utterance, from 0.
        count: of groups.
    """
    classes = probabilities.shape[1]
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1, initial=0)
    right = true == predicted
    sums = np.zeros((count, 3 * classes + BINS))
    np.add.at(sums, (groups[right], true[right]), 1)
    np.add.at(sums, (groups, classes + true), 1)
    np.add.at(sums, (groups, 2 * classes + predicted), 1)
    np.add.at(sums, (groups, 3 * classes + confidence_bins(confidence)), confidence - right)
    return sums


def choice_sums(
    true: npt.NDArray[Any], chosen: npt.NDArray[Any], classes: int, groups: npt.NDArray[Any], count: int
) -> Floats:
    """Return the `class_sums` of class numbers that were chosen, (utterances,), without probabilities."""
    return class_sums(true, np.eye(classes)[chosen], groups, count)


def confidence_bins(confidence: Floats) -> npt.NDArray[np.int64]:
    """Return the bin of each confidence: `BINS` of equal width, the upper end of each within it.

    >>> confidence_bins(np.array([0.0, 1 / 15, 0.07, 1.0])).tolist()
    [0, 0, 1, 14]
    """
    return np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)


def uar_of(sums: Floats) -> Floats:
    """Return the unweighted average recall, in [0, 1], of class sums (...,  3 classes + `BINS`).

    Classes that do not occur are not averaged over; 0 where there is nothing.
    """
    right, support, _ = _counts(sums)
    recall = right / np.where(support > 0, support, 1)
    return np.asarray(recall.sum(axis=-1) / np.maximum((support > 0).sum(axis=-1), 1))


def accuracy_of(sums: Floats) -> Floats:
    """Return the share of right predictions, in [0, 1], of class sums; NaN where there is nothing."""
    right, support, _ = _counts(sums)
    return _shares(right.sum(axis=-1), support.sum(axis=-1))


def macro_f1_of(sums: Floats) -> Floats:
    """Return the mean of the F1 scores, in [0, 1], of classes that occur or are predicted; NaN where there is none."""
    scores, _ = _f1(sums)
    there = np.isfinite(scores)
    return _shares(np.where(there, scores, 0).sum(axis=-1), there.sum(axis=-1).astype(np.float64))


def weighted_f1_of(sums: Floats) -> Floats:
    """Return the mean of the F1 scores, in [0, 1], weighted by how often a class occurs; NaN where there is nothing."""
    scores, support = _f1(sums)
    return _shares((np.nan_to_num(scores) * support).sum(axis=-1), support.sum(axis=-1))


def ece_of(sums: Floats) -> Floats:
    """Return the expected calibration error, in [0, 1], over `BINS` bins of equal width; NaN where there is nothing.

    The mean over utterances of |mean confidence - accuracy| of the bin. Source: C. Guo et al. (2017), On calibration of
    modern neural networks.
    """
    return _shares(np.abs(sums[..., -BINS:]).sum(axis=-1), _counts(sums)[1].sum(axis=-1))


def overconfidence_of(sums: Floats) -> Floats:
    """Return the mean confidence less the accuracy, in [-1, 1], above 0 if surer than right; NaN where nothing is."""
    return _shares(sums[..., -BINS:].sum(axis=-1), _counts(sums)[1].sum(axis=-1))


def _counts(sums: Floats) -> tuple[Floats, Floats, Floats]:
    """Return how often each class is right, there and predicted, (..., classes) each."""
    classes = (sums.shape[-1] - BINS) // 3
    return sums[..., :classes], sums[..., classes : 2 * classes], sums[..., 2 * classes : 3 * classes]


def _f1(sums: Floats) -> tuple[Floats, Floats]:
    """Return the F1 score of each class, NaN where it is neither there nor predicted, and how often it is there."""
    right, support, predicted = _counts(sums)
    return _shares(2 * right, support + predicted), support


def resample_weights(groups: int, seed: int = 0, resamples: int = RESAMPLES) -> Floats:
    """Return how often each group is drawn in each bootstrap resample, (resamples, groups)."""
    return np.random.default_rng(seed).multinomial(groups, np.full(groups, 1 / groups), resamples).astype(np.float64)


def interval(value: float, resampled: Floats) -> dict[str, float | None]:
    """Return ``value`` with ``low`` and ``high``, the 2.5th and 97.5th percentile of its resampled values.

    Resamples in which it is not defined (NaN) are left out; what is not defined at all is None.
    """
    there = resampled[np.isfinite(resampled)]
    low, high = np.percentile(there, [2.5, 97.5]) if len(there) and np.isfinite(value) else (np.nan, np.nan)
    return {"value": plain(value), "low": plain(low), "high": plain(high)}


def plain(value: float) -> float | None:
    """Return a number as JSON has it: None where it is none."""
    return float(value) if np.isfinite(value) else None
