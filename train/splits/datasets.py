"""Some datasets train a model, others test it."""

from __future__ import annotations

import pandas as pd
from pydantic import Field
from typing_extensions import override

from featurestore.shared.errors import SerError
from train.splits import Fold, Splits, group_column


class Datasets(Splits):
    """Of each dataset that trains, some speakers are dev; all of the others is the test split.

    With ``adapt`` there are so many folds: one part of the speakers of the datasets that test is the test split, the
    others are unlabelled, for ``lmmd``.
    """

    test: tuple[str, ...] = Field(min_length=1)
    """The names of the datasets that are the test split."""
    train: tuple[str, ...] | None = Field(default=None, min_length=1)
    """The names of those that train; all others when absent."""
    dev_parts: int = Field(default=5, ge=2)
    """One of so many parts of whole speakers of each dataset that trains is dev."""

    adapt: int | None = Field(default=None, ge=2)
    """Number of parts of whole speakers into which each dataset that tests is divided."""

    @override
    def folds(self, table: pd.DataFrame) -> list[Fold]:
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
            dev, *rest = self._divided(table[datasets == name], self.dev_parts)
            parts["dev"] += dev
            parts["train"] += [name for part in rest for name in part]
        if self.adapt is None:
            return [Fold(**parts, test=datasets.index[datasets.isin(self.test)].tolist())]
        divided = [self._divided(table[datasets == name], self.adapt) for name in self.test]
        fewest = min(map(len, divided))
        if fewest < self.adapt:
            raise SerError(f"splits.adapt={self.adapt}: found {fewest} speakers, expected as many or more")
        folds = []
        for number in range(self.adapt):
            tested = [name for of in divided for name in of[number]]
            unlabelled = [name for of in divided for part in (*of[:number], *of[number + 1 :]) for name in part]
            folds.append(Fold(**parts, test=tested, unlabelled=unlabelled))
        return folds

    def _divided(self, table: pd.DataFrame, parts: int) -> list[list[str]]:
        """Return the names of so many parts, or as many as there are speakers."""
        from sklearn.model_selection import GroupKFold  # two seconds, which the processes that train need not wait

        speakers = group_column(table, "speaker")
        count = min(parts, speakers.nunique())
        if count < 2:
            raise SerError(f"splits=datasets: {speakers.iloc[0]} is the only speaker, expected two or more")
        return [table.index[part].tolist() for _, part in GroupKFold(count).split(speakers, groups=speakers)]
