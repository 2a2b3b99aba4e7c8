import audmetric
import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from train.evaluation.classes import Recognised
from train.losses import Loss
from train.numerics.metrics import (
    BINS,
    accuracy_of,
    ccc,
    ccc_of,
    class_sums,
    concordance_sums,
    ece_of,
    interval,
    macro_f1_of,
    mae_of,
    overconfidence_of,
    pcc_of,
    r2_of,
    resample_weights,
    rmse_of,
    uar_of,
    weighted_f1_of,
)


@st.composite
def numbers(draw):
    """Return labels, predictions that have something to do with them, and groups."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    count = draw(st.integers(2, 60))
    true = draw(st.floats(-5, 5)) + draw(st.floats(0.1, 5)) * rng.normal(size=count)
    predicted = draw(st.floats(-1, 1)) * true + draw(st.floats(-3, 3)) + rng.normal(size=count)
    return true, predicted, rng.integers(0, 4, count)


@st.composite
def categories(draw):
    """Return class numbers, of which some may not occur, probabilities, and groups."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    count, classes = draw(st.integers(1, 60)), draw(st.integers(2, 6))
    true = rng.choice(draw(st.lists(st.integers(0, classes - 1), min_size=1)), count)
    scores = rng.normal(size=(count, classes)) + draw(st.floats(0, 4)) * np.eye(classes)[true]
    probabilities = torch.from_numpy(draw(st.floats(0.1, 5)) * scores).softmax(dim=1).numpy()
    return true, probabilities, rng.integers(0, 4, count)


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


@settings(max_examples=30, deadline=None)
@given(numbers())
def test_metrics_of_numbers_are_those_of_scikit_learn_scipy_and_audmetric(drawn):
    true, predicted, groups = drawn
    sums = concordance_sums(true, predicted, groups, 4).sum(axis=0)
    expected = {
        ccc_of: audmetric.concordance_cc(true, predicted),
        pcc_of: scipy.stats.pearsonr(true, predicted).statistic,
        rmse_of: metrics.root_mean_squared_error(true, predicted),
        mae_of: metrics.mean_absolute_error(true, predicted),
        r2_of: metrics.r2_score(true, predicted),
    }
    for of, value in expected.items():
        assert float(of(sums)) == pytest.approx(value, abs=1e-9)
    assert float(pcc_of(sums)) == pytest.approx(audmetric.pearson_cc(true, predicted), abs=1e-9)


@settings(max_examples=30, deadline=None)
@given(categories())
def test_metrics_of_categories_are_those_of_scikit_learn_and_audmetric(drawn):
    true, probabilities, groups = drawn
    predicted = probabilities.argmax(axis=1)
    sums = class_sums(true, probabilities, groups, 4).sum(axis=0)
    f1 = {how: metrics.f1_score(true, predicted, average=how, zero_division=0) for how in ("macro", "weighted")}
    right = predicted == true
    expected = {
        uar_of: metrics.recall_score(true, predicted, average="macro", labels=np.unique(true)),
        accuracy_of: metrics.accuracy_score(true, predicted),
        macro_f1_of: f1["macro"],
        weighted_f1_of: f1["weighted"],
        overconfidence_of: probabilities.max(axis=1).mean() - right.mean(),
        ece_of: ece_by_hand(probabilities.max(axis=1), right),
    }
    for of, value in expected.items():
        assert float(of(sums)) == pytest.approx(value, abs=1e-9)
    if set(predicted) <= set(true):  # audmetric counts a class that is predicted alone as a recall of 0
        assert float(uar_of(sums)) == pytest.approx(audmetric.unweighted_average_recall(true, predicted), abs=1e-9)
    assert float(macro_f1_of(sums)) == pytest.approx(
        audmetric.unweighted_average_fscore(true, predicted, zero_division=0), abs=1e-9
    )


def ece_by_hand(confidence, right):
    """Return the expected calibration error, bin by bin."""
    total = 0.0
    for number in range(BINS):
        within = (confidence > number / BINS) & (confidence <= (number + 1) / BINS)
        if within.any():
            total += within.mean() * abs(confidence[within].mean() - right[within].mean())
    return total


@settings(max_examples=30, deadline=None)
@given(categories())
def test_each_class_is_as_scikit_learn_has_it(drawn):
    true, scores, _ = drawn
    names = [f"class {number}" for number in range(scores.shape[1])]
    found = Recognised("emotion", names, true, scores, probable=True).figures()
    expected = metrics.classification_report(
        true, scores.argmax(axis=1), labels=np.arange(len(names)), target_names=names, output_dict=True, zero_division=0
    )
    for number, (name, figures) in enumerate(found["each"].items()):
        for ours, theirs in {
            "precision": "precision",
            "recall": "recall",
            "F1": "f1-score",
            "support": "support",
        }.items():
            assert figures[ours] == pytest.approx(expected[name][theirs], abs=1e-9)
        there = true == number
        if there.any() and not there.all():
            assert figures["AUC"] == pytest.approx(metrics.roc_auc_score(there, scores[:, number]), abs=1e-9)
        else:
            assert figures["AUC"] is None
        if there.any():
            assert figures["AP"] == pytest.approx(metrics.average_precision_score(there, scores[:, number]), abs=1e-9)
        else:
            assert (figures["AP"], figures["support"], figures["recall"], figures["F1"]) == (None, 0, 0, 0)
    assert np.sum(found["confusion"]) == len(true)
    assert sum(one["utterances"] for one in found["calibration"]) == len(true)
    errors = [one["utterances"] * abs(one["confidence"] - one["accuracy"]) for one in found["calibration"]]
    sums = class_sums(true, scores, np.zeros(len(true), int), 1)[0]
    assert sum(errors) / len(true) == pytest.approx(float(ece_of(sums)), abs=1e-9)


def test_what_is_not_defined_is_no_number():
    constant, one, nothing = (
        concordance_sums(np.array(true), np.array(predicted), np.zeros(len(true), int), 1)[0]
        for true, predicted in (([0.3, 0.3, 0.3], [0.1, 0.2, 0.3]), ([0.3], [0.4]), ([], []))
    )
    for sums in (constant, one, nothing):
        assert float(ccc_of(sums)) == 0
        assert np.isnan([pcc_of(sums), r2_of(sums)]).all()
    assert float(rmse_of(one)) == pytest.approx(0.1)
    assert np.isnan([rmse_of(nothing), mae_of(nothing)]).all()
    sums = class_sums(np.zeros(0, int), np.zeros((0, 3)), np.zeros(0, int), 1)[0]
    assert float(uar_of(sums)) == 0
    assert np.isnan([of(sums) for of in (accuracy_of, macro_f1_of, weighted_f1_of, ece_of, overconfidence_of)]).all()
    assert interval(np.nan, np.zeros(5)) == {"value": None, "low": None, "high": None}
    assert interval(1.0, np.array([np.nan, 1.0, 1.0])) == {"value": 1.0, "low": 1.0, "high": 1.0}


def test_a_bootstrap_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(3)
    covered = 0
    for trial in range(200):
        values = rng.normal(0, 1, 40)
        resampled = resample_weights(40, seed=trial, resamples=500) @ values / 40
        found = interval(values.mean(), resampled)
        covered += found["low"] <= 0 <= found["high"]
    assert 0.88 <= covered / 200 <= 0.99
