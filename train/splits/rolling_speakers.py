"""Groups of speakers that roll: each is the test part once, the one after it is dev, as in CCSEMO's five folds."""

from __future__ import annotations

import numpy as np
import pandas as pd
from pydantic import Field
from typing_extensions import override

from featurestore.shared.errors import SerError
from train.splits import Fold, Splits, group_column, rolling_folds


class RollingSpeakers(Splits):
    """Speakers in the order of names, in groups of as many speakers as can be, whatever each has said.

    The division follows from the names of the speakers alone; ``kfold`` makes parts of similar numbers of utterances.
    """

    k: int = Field(default=5, ge=3)
    """Number of groups, and of folds."""

    @override
    def folds(self, table: pd.DataFrame) -> list[Fold]:
        speakers = group_column(table, "speaker")
        names = sorted(speakers.unique())
        if len(names) < self.k:
            raise SerError(f"{self.k} groups need at least as many speakers, the store has {len(names)}")
        ends = [len(names) * number // self.k for number in range(1, self.k)]
        return rolling_folds(speakers, [list(part) for part in np.split(np.array(names, object), ends)], dev_parts=1)
