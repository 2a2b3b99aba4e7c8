"""Leave one speaker, session or dataset out: each is the test split once."""

from __future__ import annotations

import pandas as pd
from pydantic import Field
from typing_extensions import override

from featurestore.shared.errors import SerError
from train.splits import Apart, Fold, Splits, group_column, rolling_folds, whole_groups


class LeaveOneOut(Splits):
    """Each speaker (or session) is the test split once, those after it in the order of names are dev."""

    group: str = "speaker"
    """What is left out: speaker, session, dataset or another column."""
    dev_groups: int = Field(default=1, ge=1)
    """How many of them are dev."""

    @property
    @override
    def apart(self) -> Apart:
        return whole_groups(self.group)

    @override
    def folds(self, table: pd.DataFrame) -> list[Fold]:
        groups = group_column(table, self.group)
        parts = [[group] for group in sorted(groups.unique())]
        if len(parts) < self.dev_groups + 2:
            raise SerError(f"leave one {self.group} out needs {self.dev_groups + 2} or more, found {len(parts)}")
        return rolling_folds(groups, parts, self.dev_groups)
