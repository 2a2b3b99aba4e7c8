"""Whether two systems differ: the error of a difference over speakers and trainings, tests, and what they can find."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
import numpy.typing as npt
from scipy import stats

from train.numerics.metrics import Floats

LEVEL = 0.05
"""The most often that systems which do not differ are told apart."""
POWER = 0.8
PERMUTATIONS = 9_999
"""At most; where there are no more ways than these, all of them are taken."""
BATCH = 1_000


@dataclass(frozen=True)
class Error:
    """How far an estimate may be off.

    Attributes:
        variance: of the estimate.
        freedom: degrees of freedom with which the variance is known.
    """

    variance: float
    freedom: float

    def __add__(self, other: Error) -> Error:
        """Return the error of a sum of two independent estimates, its freedom as Welch and Satterthwaite have it.

        Source: F. E. Satterthwaite (1946), An approximate distribution of estimates of variance components.
        """
        terms = [error for error in (self, other) if error.variance > 0]
        if not terms:
            return Error(0.0, min(self.freedom, other.freedom))
        variance = sum(error.variance for error in terms)
        return Error(variance, variance**2 / sum(error.variance**2 / error.freedom for error in terms))

    def interval(self, value: float) -> tuple[float, float]:
        """Return the 95 % interval of Student's t around an estimate."""
        half = float(stats.t.ppf(1 - LEVEL / 2, self.freedom)) * self.variance**0.5
        return value - half, value + half

    def p(self, value: float) -> float:
        """Return how probable an estimate this far from 0, or farther, is if the truth is 0; in [0, 1]."""
        return _t_p(value, self.variance, self.freedom)


def _t_p(value: float, variance: float, freedom: float) -> float:
    if variance == 0:
        return float(value == 0)
    return float(2 * stats.t.sf(abs(value) / variance**0.5, freedom))


def bootstrap_error(resampled: Floats, clusters: int) -> Error:
    """Return the error of an estimate over clusters of utterances, such as speakers.

    Args:
        resampled: the estimate in bootstrap resamples of the clusters.
        clusters: how many there are, two or more. A resample varies by (clusters - 1) / clusters too little.
    """
    return Error(float(np.var(resampled)) * clusters / (clusters - 1), clusters - 1)


def jackknife_error(without: Floats) -> Error:
    """Return the error of an estimate that several trainings give together, such as the mean over seeds.

    Of a mean it is the variance of one divided by their number; of other estimates it is rather too large.
    Source: B. Efron and C. Stein (1981), The jackknife estimate of variance.

    Args:
        without: the estimate without each of the trainings, two or more.
    """
    count = len(without)
    return Error((count - 1) * float(np.var(without)), count - 1)


def corrected_t_p(differences: npt.ArrayLike, ratio: float) -> float:
    """Return the p-value of the corrected resampled t-test over folds, in [0, 1]; NaN with less than two folds.

    The variance over folds is taken times 1 / folds + test / train, since the training parts overlap. Source: C. Nadeau
    and Y. Bengio (2003), Inference for the generalization error.

    Args:
        differences: of the metric, (folds,).
        ratio: of the sizes of a test and a training part.
    """
    found = np.asarray(differences, np.float64)
    if len(found) < 2:
        return float("nan")
    variance = (1 / len(found) + ratio) * float(found.var(ddof=1))
    return _t_p(float(found.mean()), variance, len(found) - 1)


def swap_p(difference: Callable[[Floats], Floats], clusters: int) -> float:
    """Return the p-value of a permutation test that swaps two systems within clusters, in (0, 1].

    All 2^clusters ways are taken where there are at most `PERMUTATIONS`, else so many random ones beside the one that
    is there. Source: B. Phipson and G. K. Smyth (2010), Permutation p-values should never be zero.

    Args:
        difference: the differences of the metric after swaps, (n, clusters) of 0 and 1: (n,).
        clusters: how many there are.
    """
    found = stats.permutation_test(
        (np.zeros(clusters), np.ones(clusters)),
        lambda first, _, **__: difference(np.atleast_2d(first)).reshape(first.shape[:-1]),
        permutation_type="samples",
        vectorized=True,
        n_resamples=PERMUTATIONS,
        batch=BATCH,
        axis=-1,
        rng=0,
    )
    return float(found.pvalue)


def holm(values: npt.ArrayLike) -> Floats:
    """Return the p-values of several tests, such that taking all up to 5 % is wrong once or more in 5 % of cases.

    Source: S. Holm (1979), A simple sequentially rejective multiple test procedure.

    >>> holm([0.01, 0.04, 0.03]).round(2).tolist()
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(values, np.float64)
    order = np.argsort(p)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return adjusted


def smallest_difference(
    found: Floats, within: Floats, value: float, clusters: int, trainings: Sequence[Error], tests: int = 1
) -> float:
    """Return the smallest true difference that 80 % of simulated studies find.

    A study draws clusters, such as speakers, anew and is off by what trainings differ; it finds a difference that is
    larger than the t-test asks for with the error that the study itself sees. The variance over trainings is drawn for
    each study, too, from what it may be where so many trainings show what they show. Source of the idea: H. S. Bloom
    (1995), Minimum detectable effects; here the studies are drawn instead of a formula for their error.

    Args:
        found: the difference in each study, (studies,).
        within: in resamples of the clusters of each study, (studies, resamples).
        value: the difference over all clusters.
        clusters: how many there are.
        trainings: the errors over trainings of the two systems; none where one of them was trained once.
        tests: among which Holm's procedure finds it, whatever the others say.
    """
    rng, wider = np.random.default_rng(0), clusters / (clusters - 1)
    off = np.copysign(wider**0.5, value) * (found - value)  # of the better one less the other
    seen = [[Error(variance, clusters - 1) for variance in (np.var(within, axis=1) * wider**2).tolist()]]
    for error in sorted(trainings, key=lambda error: error.variance):
        true = error.variance * error.freedom / rng.chisquare(error.freedom, len(found))  # few know it badly
        off = off + rng.normal(0, 1, len(found)) * np.sqrt(true)
        variances = true * rng.chisquare(error.freedom, len(found)) / error.freedom
        seen.append([Error(variance, error.freedom) for variance in variances.tolist()])
    errors = [reduce(Error.__add__, of_study) for of_study in zip(*seen, strict=True)]
    most = sum(error.freedom for error in trainings) or clusters - 1
    quantiles = stats.t.ppf(1 - LEVEL / tests / 2, [min(error.freedom, most) for error in errors])
    return float(np.quantile(quantiles * np.sqrt([error.variance for error in errors]) - off, POWER))
