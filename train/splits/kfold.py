"""Speaker-independent k folds of similar size."""

from __future__ import annotations

import pandas as pd
from pydantic import Field
from sklearn.model_selection import GroupKFold

from featurestore.errors import SerError
from train.splits import Fold, Splits, group_column, rolling_folds


class KFold(Splits):
    """K parts of whole speakers: each is the test split once, the part after it is dev."""

    k: int = Field(default=5, ge=3)
    """Number of folds."""
    group: str = "speaker"
    """What stays together: speaker or session."""
    seed: int | None = Field(default=None, ge=0, lt=2**32)
    """Deals the speakers out at random; when absent, so that the parts have similar numbers of utterances."""

    def folds(self, table: pd.DataFrame) -> list[Fold]:  # noqa: D102
        groups = group_column(table, self.group)
        if groups.nunique() < self.k:
            raise SerError(f"{self.k} folds need at least as many {self.group}s, the store has {groups.nunique()}")
        dealer = GroupKFold(self.k, shuffle=self.seed is not None, random_state=self.seed)
        parts = [groups.iloc[test].unique().tolist() for _, test in dealer.split(groups, groups=groups)]
        return rolling_folds(groups, parts, dev_parts=1)
