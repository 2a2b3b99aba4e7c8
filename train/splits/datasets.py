"""Some datasets train a model, others test it."""

from __future__ import annotations

import pandas as pd
from pydantic import Field
from sklearn.model_selection import GroupKFold

from featurestore.errors import SerError
from train.splits import Fold, Splits, group_column


class Datasets(Splits):
    """One fold: of each dataset that trains, some speakers are dev; the others are the test split, all of them."""

    test: tuple[str, ...] = Field(min_length=1)
    """The names of the datasets that are the test split."""
    train: tuple[str, ...] | None = Field(default=None, min_length=1)
    """The names of those that train; all others when absent."""
    dev_parts: int = Field(default=5, ge=2)
    """One of so many parts of whole speakers of each dataset that trains is dev."""

    def folds(self, table: pd.DataFrame) -> list[Fold]:  # noqa: D102
        datasets = group_column(table, "dataset")
        known = list(dict.fromkeys(datasets))
        train = [name for name in known if name not in self.test] if self.train is None else list(self.train)
        absent = [name for name in (*train, *self.test) if name not in known]
        if absent or not train or set(train) & set(self.test):
            raise SerError(
                f"splits=datasets: found {', '.join(known)}, expected some to train and others to test: "
                f"train=[{','.join(train)}], test=[{','.join(self.test)}]; give a --store for each"
            )
        parts: dict[str, list[str]] = {"train": [], "dev": []}
        for name in train:
            for part, names in self._divided(table[datasets == name]).items():
                parts[part] += names
        return [Fold(**parts, test=datasets.index[datasets.isin(self.test)].tolist())]

    def _divided(self, table: pd.DataFrame) -> dict[str, list[str]]:
        speakers = group_column(table, "speaker")
        count = min(self.dev_parts, speakers.nunique())
        if count < 2:
            raise SerError(f"splits=datasets: {speakers.iloc[0]} is the only speaker, expected two or more: one is dev")
        train, dev = next(GroupKFold(count).split(speakers, groups=speakers))
        return {"train": table.index[train].tolist(), "dev": table.index[dev].tolist()}
