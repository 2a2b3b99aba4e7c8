"""Nested folds: within each outer fold, inner ones that choose among configurations without its test part.

Source: S. Varma and R. Simon (2006), Bias in error estimation when using cross-validation for model selection.
"""

from __future__ import annotations

import pandas as pd
from typing_extensions import override

from train.splits import Apart, Fold, Splits
from train.splits.kfold import KFold


class Nested(Splits):
    """Outer folds, each with inner ones of its train and dev part; ``ser-train nested`` chooses by them."""

    outer: Splits = KFold()
    """The folds that are trained and tested."""
    within: Splits = KFold(k=3)
    """How their train and dev part is divided again, into train, dev and test."""

    @property
    @override
    def unsafe(self) -> str | None:
        return self.outer.unsafe or self.within.unsafe

    @property
    @override
    def apart(self) -> Apart:
        return self.outer.apart

    @override
    def folds(self, table: pd.DataFrame) -> list[Fold]:
        return self.outer.folds(table)

    @override
    def inner(self, table: pd.DataFrame, fold: Fold) -> list[Fold]:
        rest = table.loc[table.index.isin([*fold.train, *fold.dev])]
        return self.within.folds(rest)
