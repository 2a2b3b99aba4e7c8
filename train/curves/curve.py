"""From the order of the chunks of an utterance to the curve of an emotion over its time.

Source: W.-C. Lin and C. Busso, Sequential modeling by leveraging non-uniform distribution of speech emotion (2023).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from train.numerics.metrics import Floats

Basis = Literal["ranks", "trend"]
"""What a curve is made of: the ranks themselves, or their `trend`, as published."""
SMOOTHED = 3
"""Chunks over which a curve is averaged."""
FLAT = 1e-9
"""Below which a curve has no movement, and raters no spread."""


def trend(ranks: npt.ArrayLike) -> Floats:
    """Return how an emotion rises and falls: 0, then a step up where the rank falls, and down where it rises.

    Every step counts the same, however far the rank moves, so one wrong step moves all that follows.

    Args:
        ranks: of the chunks, 1 where there is most: (..., chunks).

    >>> trend([3, 1, 1, 2, 5, 4]).tolist()
    [0.0, 1.0, 1.0, 0.0, -1.0, 0.0]
    """
    steps = -np.sign(np.diff(np.asarray(ranks, np.int64), axis=-1)).astype(np.float64)
    return np.concatenate([np.zeros_like(steps[..., :1]), np.cumsum(steps, axis=-1)], axis=-1)


def smooth(values: Floats) -> Floats:
    """Return each value as the mean of it and its two neighbours, (..., chunks); the first and the last as they are."""
    if values.shape[-1] < SMOOTHED:
        return values
    windows = np.lib.stride_tricks.sliding_window_view(values, SMOOTHED, axis=-1).mean(axis=-1)
    return np.concatenate([values[..., :1], windows, values[..., -1:]], axis=-1)


def rescale(values: Floats, mean: Floats, sd: Floats) -> Floats:
    """Return curves with the mean and deviation that are asked for; flat ones are the mean.

    Args:
        values: (utterances, chunks).
        mean: (utterances,).
        sd: population deviation, (utterances,).
    """
    own = values.std(axis=-1, keepdims=True)
    shape = np.divide(values - values.mean(axis=-1, keepdims=True), own, out=np.zeros_like(values), where=own > FLAT)
    return mean[:, None] + shape * np.where(sd > FLAT, sd, 0.0)[:, None]


def curves_of(ranks: npt.ArrayLike, ratings: Floats, basis: Basis = "ranks") -> Floats:
    """Return the curves of utterances in the units of their raters: with the mean and deviation of what they said.

    Args:
        ranks: of the chunks, (utterances, chunks).
        ratings: of each utterance, (utterances, raters), NaN where there is none.
        basis: what is smoothed and rescaled; ``trend`` is the published form.

    Returns:
        (utterances, chunks), NaN for an utterance that no rater rated.
    """
    there = np.isfinite(ratings)
    count = there.sum(axis=1)
    of = np.where(count, count, np.nan)
    mean = np.where(there, ratings, 0).sum(axis=1) / of
    sd = np.sqrt(np.where(there, (ratings - mean[:, None]) ** 2, 0).sum(axis=1) / of)
    moves = trend(ranks) if basis == "trend" else -np.asarray(ranks, np.float64)
    return rescale(smooth(moves), mean, sd)
