"""The splits that the dataset gives: its train, dev and test utterances."""

from __future__ import annotations

import pandas as pd
from typing_extensions import override

from featurestore.shared.errors import SerError
from train.reading.labels import as_names
from train.splits import Fold, Splits


class Given(Splits):
    """One fold, from the column ``split``."""

    @override
    def folds(self, table: pd.DataFrame) -> list[Fold]:
        split = as_names(table["split"]) if "split" in table else pd.Series("", table.index)
        parts = {part: table.index[split == part].tolist() for part in ("train", "dev", "test")}
        empty = [part for part, names in parts.items() if not names]
        if empty:
            raise SerError(f"the store gives no utterance of {', '.join(empty)}: use splits=kfold")
        return [Fold(**parts)]
