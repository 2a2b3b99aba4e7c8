"""The statistics of differences, beside scipy and figures by hand."""

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from train.comparison.significance import (
    PERMUTATIONS,
    Error,
    bootstrap_error,
    corrected_t_p,
    holm,
    jackknife_error,
    smallest_difference,
    swap_p,
)

VALUES = np.array([0.31, 0.12, -0.05, 0.22, 0.4, 0.18, -0.11])
OTHERS = np.array([0.05, -0.02, 0.09, 0.01])


def without_each(values):
    return np.array([np.delete(values, i).mean() for i in range(len(values))])


def test_the_jackknife_of_means_is_welchs_t_test():
    error = jackknife_error(without_each(VALUES)) + jackknife_error(without_each(OTHERS))
    expected = stats.ttest_ind(VALUES, OTHERS, equal_var=False)
    difference = VALUES.mean() - OTHERS.mean()
    assert error.freedom == pytest.approx(expected.df)
    assert error.p(difference) == pytest.approx(expected.pvalue)
    low, high = expected.confidence_interval()
    assert error.interval(difference) == pytest.approx((low, high))


def test_the_bootstrap_of_a_mean_is_the_t_test_of_one_sample():
    drawn = np.random.default_rng(0).integers(len(VALUES), size=(200_000, len(VALUES)))
    error = bootstrap_error(VALUES[drawn].mean(axis=1), len(VALUES))
    assert error.variance == pytest.approx(stats.sem(VALUES) ** 2, rel=0.02)
    assert error.p(VALUES.mean()) == pytest.approx(stats.ttest_1samp(VALUES, 0).pvalue, rel=0.05)


def test_an_error_that_is_nothing_adds_nothing():
    one, nothing = Error(0.5, 7.0), Error(0.0, 2.0)
    assert one + nothing == one
    assert nothing + nothing == nothing
    assert nothing.p(0.0) == 1
    assert nothing.p(0.1) == 0
    assert nothing.interval(0.1) == (0.1, 0.1)


def test_folds_that_do_not_overlap_are_the_plain_t_test():
    assert corrected_t_p(VALUES, ratio=0) == pytest.approx(stats.ttest_1samp(VALUES, 0).pvalue)


def test_the_corrected_t_test_by_hand():
    t = 0.02 / math.sqrt((1 / 3 + 0.5) * 0.0001)  # of .01, .02, .03: mean .02, variance .0001
    assert corrected_t_p([0.01, 0.02, 0.03], ratio=0.5) == pytest.approx(2 * stats.t.sf(t, 2))
    assert math.isnan(corrected_t_p([0.1], ratio=0.5))
    assert corrected_t_p([0.0, 0.0], ratio=0.5) == 1


def flipped_mean(swaps):
    return (np.where(swaps == 1, -1, 1) * VALUES).mean(axis=-1)


def test_few_clusters_are_swapped_in_all_ways():
    every = np.array([(signs * VALUES).mean() for signs in product([1, -1], repeat=len(VALUES))])
    expected = np.mean(np.abs(every) >= abs(VALUES.mean()) - 1e-12)
    assert swap_p(flipped_mean, len(VALUES)) == pytest.approx(expected)


def test_many_clusters_are_swapped_at_random_and_their_p_is_never_zero():
    count = 60
    assert swap_p(lambda swaps: 1 - 2 * swaps.mean(axis=-1), count) == pytest.approx(2 / (PERMUTATIONS + 1))
    assert swap_p(lambda swaps: np.zeros(len(swaps)), count) == 1


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        ([0.2, 0.2, 0.2], [0.6, 0.6, 0.6]),
        ([0.9, 0.6], [1.0, 1.0]),
        ([0.03], [0.03]),
    ],
)
def test_holm_by_hand(values, expected):
    assert holm(values) == pytest.approx(expected)


@given(arrays(float, st.integers(1, 8), elements=st.floats(0, 1)))
@settings(deadline=None)
def test_holm_keeps_the_order_and_only_raises(values):
    adjusted = holm(values)
    assert (adjusted >= values).all()
    assert (adjusted <= np.minimum(1, len(values) * values) + 1e-12).all()
    assert (np.diff(adjusted[np.argsort(values)]) >= 0).all()


def studies_of(values, rng, studies=200, resamples=50):
    """Return the mean of some values in studies that draw them, and in resamples of each study."""
    count = len(values)
    drawn = rng.multinomial(count, np.full(count, 1 / count), studies)
    within = np.stack([rng.multinomial(count, row / count, resamples) @ values for row in drawn])
    return drawn @ values / count, within / count


def test_the_smallest_difference_is_found_in_four_of_five_studies():
    size, deviation, rng = 18, 0.05, np.random.default_rng(0)
    samples = rng.normal(0, deviation, (60, size))
    smallest = np.mean([smallest_difference(*studies_of(one, rng), one.mean(), size, []) for one in samples])
    drawn = rng.normal(smallest, deviation, (20_000, size))
    assert np.mean(stats.ttest_1samp(drawn, 0, axis=1).pvalue <= 0.05) == pytest.approx(0.8, abs=0.05)


def test_a_few_trainings_do_not_promise_more_than_they_know():
    rng, nothing = np.random.default_rng(2), (np.zeros(50), np.zeros((50, 10)))

    def studies(count):  # errors of two means of five trainings each, and the difference of the means
        values = rng.normal(0, 0.02, (count, 2, 5))
        errors = [[Error(float(one.var(ddof=1) / 5), 4) for one in pair] for pair in values]
        return errors, values.mean(axis=2) @ [1, -1]

    smallest = np.median([smallest_difference(*nothing, 0.0, 18, pair) for pair in studies(200)[0]])
    p_values = [(a + b).p(smallest + off) for (a, b), off in zip(*studies(2000), strict=True)]
    assert 0.78 < np.mean(np.array(p_values) <= 0.05) < 0.95


def test_more_tests_and_more_errors_find_larger_differences_alone():
    rng = np.random.default_rng(1)
    values = rng.normal(0, 0.05, 18)
    found, within = studies_of(values, rng)
    alone = smallest_difference(found, within, values.mean(), 18, [])
    assert alone < smallest_difference(found, within, values.mean(), 18, [], tests=3)
    assert alone < smallest_difference(found, within, values.mean(), 18, [Error(1e-4, 4), Error(2e-4, 4)])
    nothing = np.zeros_like(found), np.zeros_like(within)
    assert smallest_difference(*nothing, 0.0, 18, []) == 0


def test_the_smallest_difference_is_that_of_the_pair_in_either_order():
    rng, errors = np.random.default_rng(2), [Error(1e-4, 4), Error(2e-4, 4)]
    values = rng.normal(0.02, 0.05, 18)
    found, within = studies_of(values, rng)
    one = smallest_difference(found, within, values.mean(), 18, errors)
    assert smallest_difference(-found, -within, -values.mean(), 18, errors[::-1]) == pytest.approx(one)
