"""Nested folds: within each outer fold, inner ones that choose among configurations without its test part."""

from __future__ import annotations

import pandas as pd

from train.splits import Apart, Fold, Splits
from train.splits.kfold import KFold


class Nested(Splits):
    """Outer folds, each with inner ones of its train and dev part."""

    outer: Splits = KFold()
    """The folds that are trained and tested."""
    within: Splits = KFold(k=3)
    """How their train and dev part is divided: what it tests is dev of an inner fold, all else trains it."""

    @property
    def unsafe(self) -> str | None:  # noqa: D102
        return self.outer.unsafe or self.within.unsafe

    @property
    def apart(self) -> Apart:  # noqa: D102
        return self.outer.apart

    def folds(self, table: pd.DataFrame) -> list[Fold]:  # noqa: D102
        return self.outer.folds(table)

    def inner(self, table: pd.DataFrame, fold: Fold) -> list[Fold]:  # noqa: D102
        rest = table.loc[table.index.isin([*fold.train, *fold.dev])]
        found = []
        for part in self.within.folds(rest):
            selecting = set(part.test)
            found.append(Fold([name for name in rest.index if name not in selecting], part.test, []))
        return found
