"""Speaker-independent k folds of similar size."""

from __future__ import annotations

import numpy as np
import pandas as pd
from pydantic import Field

from featurestore.errors import SerError
from train.splits import Fold, Splits, group_column, rolling_folds


class KFold(Splits):
    """K parts of whole speakers: each is the test split once, the part after it is dev."""

    k: int = Field(default=5, ge=3)
    """Number of folds."""
    group: str = "speaker"
    """What stays together: speaker or session."""
    seed: int = 0
    """Of the order in which speakers are dealt out."""

    def folds(self, table: pd.DataFrame) -> list[Fold]:  # noqa: D102
        groups = group_column(table, self.group)
        if groups.nunique() < self.k:
            raise SerError(f"{self.k} folds need at least as many {self.group}s, the store has {groups.nunique()}")
        return rolling_folds(groups, self._deal(groups), dev_parts=1)

    def _deal(self, groups: pd.Series) -> list[list[str]]:
        """Deal the groups out, the largest first, each to the part that has the fewest utterances."""
        sizes = groups.value_counts().sort_index()
        order = np.random.default_rng(self.seed).permutation(len(sizes))
        shuffled = sizes.iloc[order].sort_values(ascending=False, kind="stable")
        parts: list[list[str]] = [[] for _ in range(self.k)]
        filled = [0] * self.k
        for group, size in shuffled.items():
            smallest = filled.index(min(filled))
            parts[smallest].append(str(group))
            filled[smallest] += size
        return parts
