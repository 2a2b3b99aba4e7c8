import numpy as np
import pytest
import torch
from sklearn.metrics import recall_score

from train.losses import Loss
from train.metrics import ccc, ccc_of, concordance_sums, confusion_counts, interval, resample_weights, uar_of


@pytest.mark.parametrize(
    ("true", "predicted", "expected"),
    [
        ([1, 2, 3, 4], [1, 2, 3, 4], 1.0),
        ([1, 2, 3, 4], [4, 3, 2, 1], -1.0),
        ([1, 2, 3, 4], [2, 3, 4, 5], 2 * 1.25 / (1.25 + 1.25 + 1)),  # shifted by one
        ([1, 2, 3, 4], [2, 4, 6, 8], 2 * 2.5 / (1.25 + 5 + 2.5**2)),  # doubled
        ([1, 2, 3], [2, 2, 2], 0.0),
        ([2, 2], [2, 2], 0.0),
    ],
)
def test_ccc_by_hand(true, predicted, expected):
    assert ccc(true, predicted) == pytest.approx(expected, abs=1e-12)


def test_the_loss_is_one_minus_the_ccc():
    rng = np.random.default_rng(0)
    true, predicted = rng.normal(size=(2, 50, 3))
    loss = Loss.kind("ccc")()(torch.tensor(predicted), torch.tensor(true))
    expected = 1 - np.mean([ccc(t, p) for t, p in zip(true.T, predicted.T, strict=True)])
    assert float(loss) == pytest.approx(expected, abs=1e-6)


def test_a_batch_of_four_can_reach_a_ccc_of_one():
    """Unbiased variances with a biased covariance would end at 3/4."""
    values = torch.tensor([[1.0], [2.0], [4.0], [8.0]])
    assert float(Loss.kind("ccc")()(values, values)) == pytest.approx(0, abs=1e-6)


def test_sums_per_group_add_up():
    rng = np.random.default_rng(1)
    true, predicted, groups = rng.normal(100, 1, 60), rng.normal(100, 1, 60), rng.integers(0, 7, 60)
    sums = concordance_sums(true, predicted, groups, 7)
    assert float(ccc_of(sums.sum(axis=0))) == pytest.approx(ccc(true, predicted), abs=1e-9)


def test_uar_is_that_of_scikit_learn():
    rng = np.random.default_rng(2)
    true, predicted, groups = rng.integers(0, 5, 200), rng.integers(0, 5, 200), rng.integers(0, 9, 200)
    counts = confusion_counts(true, predicted, 5, groups, 9)
    assert float(uar_of(counts.sum(axis=0))) == pytest.approx(recall_score(true, predicted, average="macro"))


def test_a_bootstrap_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(3)
    covered = 0
    for trial in range(200):
        values = rng.normal(0, 1, 40)
        resampled = resample_weights(40, seed=trial, resamples=500) @ values / 40
        found = interval(values.mean(), resampled)
        covered += found["low"] <= 0 <= found["high"]
    assert 0.88 <= covered / 200 <= 0.99
