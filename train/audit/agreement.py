"""How far a guess from something that is no speech agrees with the labels: 0 by chance, 1 throughout."""

from __future__ import annotations

import math

import pandas as pd

LEAST = 0.2
"""Agreement that is worth a remark, where it is also four standard deviations above chance."""


def agreement(true: pd.Series, guessed: pd.Series) -> float:
    """Return the correlation of numbers, or Cohen's kappa of names; NaN of what is the same throughout.

    Args:
        true: the labels.
        guessed: for the same utterances, in the same order.
    """
    known = (true.notna() & (true.astype(str) != "")).to_numpy() & guessed.notna().to_numpy()
    a, b = true[known].reset_index(drop=True), guessed[known].reset_index(drop=True)
    if pd.api.types.is_numeric_dtype(a):
        return float(a.corr(b)) if a.std() > 0 and b.std() > 0 else math.nan
    by_chance = float((a.value_counts(normalize=True) * b.value_counts(normalize=True)).sum())
    return (float((a == b).mean()) - by_chance) / (1 - by_chance) if by_chance < 1 else math.nan


def remarkable(value: float, utterances: int) -> bool:
    """Return whether an agreement over so many utterances is more than chance."""
    return value > max(LEAST, 4 / math.sqrt(max(utterances, 1)))
