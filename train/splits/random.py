"""Utterances at random, whoever speaks: the same voices are trained on and tested."""

from __future__ import annotations

import numpy as np
import pandas as pd
from pydantic import Field
from typing_extensions import override

from featurestore.shared.errors import SerError
from train.splits import Fold, Splits, rolling_folds


class Random(Splits):
    """K parts of utterances; needs ``unsafe.random_splits=true``, and is there to reproduce what others report."""

    k: int = Field(default=5, ge=3)
    """Number of folds: each part is the test split once, the one after it is dev."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Of the order."""

    @property
    @override
    def unsafe(self) -> str | None:
        return "random_splits"

    @override
    def folds(self, table: pd.DataFrame) -> list[Fold]:
        if len(table) < self.k:
            raise SerError(f"{self.k} folds need at least as many utterances, the store has {len(table)}")
        order = np.random.default_rng(self.seed).permutation(len(table))
        parts = [table.index[rows].tolist() for rows in np.array_split(order, self.k)]
        return rolling_folds(pd.Series(table.index, table.index), parts, dev_parts=1)
