"""Speaker-independent k folds of similar size."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import Field
from typing_extensions import override

from featurestore.shared.errors import SerError
from train.reading.labels import as_names
from train.splits import Apart, Fold, Splits, group_column, rolling_folds, whole_groups

BINS = 5
"""Of equal numbers of utterances, by which a column of numbers is stratified."""

Rows = npt.NDArray[np.int64]


class KFold(Splits):
    """K parts of whole speakers: each is the test split once, the part after it is dev."""

    k: int = Field(default=5, ge=3)
    """Number of folds, at least three: of their parts one tests, one is dev, the others train."""
    group: str = "speaker"
    """What stays together: speaker or session."""
    seed: int | None = Field(default=None, ge=0, lt=2**32)
    """Deals the speakers out at random; when absent, so that the parts have similar numbers of utterances."""
    stratify: str | None = None
    """A column whose values the parts have in similar shares, such as emotion; of numbers, fifths of them."""

    @property
    @override
    def apart(self) -> Apart:
        return whole_groups(self.group)

    @override
    def folds(self, table: pd.DataFrame) -> list[Fold]:
        groups = group_column(table, self.group)
        if groups.nunique() < self.k:
            raise SerError(f"{self.k} folds need at least as many {self.group}s, the store has {groups.nunique()}")
        parts = [groups.iloc[test].unique().tolist() for test in self._deal(table, groups)]
        if not all(parts):
            raise SerError(f"{self.k} folds stratified by {self.stratify} leave one without any {self.group}: lower k")
        return rolling_folds(groups, parts, dev_parts=1)

    def _deal(self, table: pd.DataFrame, groups: pd.Series) -> list[Rows]:
        """Return the rows of each part."""
        from sklearn.model_selection import (
            GroupKFold,
            StratifiedGroupKFold,
        )  # two seconds, which training need not wait

        how: dict[str, Any] = {"n_splits": self.k, "shuffle": self.seed is not None, "random_state": self.seed}
        if self.stratify is None:
            return [test for _, test in GroupKFold(**how).split(groups, groups=groups)]
        kinds = _kinds(table, self.stratify)
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "The least populated class")  # it is in as many parts as can be
                return [test for _, test in StratifiedGroupKFold(**how).split(groups, kinds, groups)]
        except ValueError as error:
            raise SerError(f"{self.k} folds cannot be stratified by {self.stratify}: {error}") from None


def _kinds(table: pd.DataFrame, column: str) -> Rows:
    """Return the number of the kind of each utterance, by which the parts are to be alike.

    Raises:
        SerError: if the table has no such column.
    """
    if column not in table:
        raise SerError(f"splits.stratify={column}: the store has no such column; found {', '.join(table.columns)}")
    values = table[column]
    if pd.api.types.is_float_dtype(values):
        values = pd.qcut(values, BINS, labels=False, duplicates="drop")
    return pd.factorize(as_names(values))[0].astype(np.int64)
