"""How well utterances are put in order: pairwise accuracy, Spearman and Kendall, from sums per group.

Pairs are counted between every two groups, so that a resample of the groups, in which each is there so many times, has
the pairs that the resampled utterances have: sums of a resample hold how often each group is in it, and for every group
the pairs of all groups with it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from train.numerics.metrics import Floats, Groups, concordance_sums, pcc_of

MOMENTS = 8
"""Columns of `concordance_sums`, of the ranks of all utterances."""
COUNTS = 5
"""Pairs that are counted: see `order_sums`."""
ROWS = 512
"""Utterances that are compared with all others at a time."""
CHANCE = 0.5


def order_sums(true: Floats, predicted: Floats, labels: npt.NDArray[np.int8], groups: Groups, count: int) -> Floats:
    """Return per group the sums from which the metrics of an order are computed, (groups, 8 + 6 groups).

    After the moments of the ranks come how often each group is there, and for each other group the pairs with it: that
    raters agree on; of these the ones that are ordered so, by halves where both are predicted alike; the concordant
    less the discordant ones; those that differ in truth; those that differ in what is predicted.

    Args:
        true: (utterances,).
        predicted: (utterances,).
        labels: 1 where raters agree on more in the first, -1 on more in the second, else 0: (utterances, utterances).
        groups: the group's number of each utterance, from 0.
        count: of groups.
    """
    moments = concordance_sums(rankdata(true), rankdata(predicted), groups, count)
    member = np.eye(count, dtype=np.float64)[groups]
    pairs = np.zeros((COUNTS, count, count))
    for first in range(0, len(true), ROWS):
        rows = slice(first, first + ROWS)
        truth = np.sign(true[rows, None] - true)
        found = np.sign(predicted[rows, None] - predicted)
        asked = np.abs(labels[rows]).astype(np.float64)
        counted = (asked, (asked + labels[rows] * found) / 2, truth * found, np.abs(truth), np.abs(found))
        for number, one in enumerate(counted):
            pairs[number] += member[rows].T @ one @ member
    return np.concatenate([moments, np.eye(count), *pairs], axis=1)


def pairwise_accuracy_of(sums: Floats) -> Floats:
    """Return the share of pairs that raters agree on and that are ordered so, in [0, 1]; a half where there is none."""
    asked, right = _pairs(sums)[:2]
    return np.divide(right, asked, out=np.full_like(right, CHANCE), where=asked > 0)


def spearman_of(sums: Floats) -> Floats:
    """Return Spearman's correlation, in [-1, 1], of the ranks among all utterances; NaN where one does not vary."""
    return pcc_of(sums[..., :MOMENTS])


def kendall_of(sums: Floats) -> Floats:
    """Return Kendall's tau-b, in [-1, 1]; NaN where truth or prediction does not vary."""
    _, _, agreeing, true, found = _pairs(sums)
    both = np.sqrt(true * found)
    return np.divide(agreeing, both, out=np.full_like(agreeing, np.nan), where=both > 0)


def _pairs(sums: Floats) -> tuple[Floats, ...]:
    """Return the counts of pairs among all groups, each as often as it is there, (...) each."""
    groups = (sums.shape[-1] - MOMENTS) // (1 + COUNTS)
    parts = sums[..., MOMENTS:].reshape(*sums.shape[:-1], 1 + COUNTS, groups)
    times = parts[..., 0, :]
    return tuple((times * parts[..., 1 + number, :]).sum(axis=-1) for number in range(COUNTS))
