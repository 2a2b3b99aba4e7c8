"""Splits: which utterances train a model, which select it, and which test it, once."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

import pandas as pd

from featurestore.shared.config import Component
from featurestore.shared.errors import SerError
from train.reading.labels import as_names


@dataclass(frozen=True)
class Fold:
    """The names of the utterances of one division.

    Attributes:
        train: those that train a model.
        dev: those that select it.
        test: those that test it.
        unlabelled: those to which it is adapted; their labels are not used.
    """

    train: list[str]
    dev: list[str]
    test: list[str]
    unlabelled: list[str] = field(default_factory=list)


PAIRS = ("train/dev", "train/test", "dev/test")
"""The parts of a fold, two by two."""
Apart = dict[str, list[str]]
"""Of a column, the `PAIRS` of parts that have no value of it in common."""


def share_of(names: Sequence[str], share: float) -> list[str]:
    """Return a share of the names, in their order: those with the least hashes, so that each is part of a larger share.

    >>> share_of(["a", "b", "c", "d"], 0.5), share_of(["a", "b", "c", "d"], 0.75)
    (['c', 'd'], ['b', 'c', 'd'])
    """
    least = sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())[: round(share * len(names))]
    kept = set(least)
    return [name for name in names if name in kept]


class Splits(Component, ABC):
    """A way to divide the utterances."""

    @property
    def unsafe(self) -> str | None:
        """The setting below ``unsafe`` without which it is refused, where its figures mean something else."""
        return None

    @property
    def apart(self) -> Apart:
        """What it keeps apart beside speakers."""
        return {}

    def inner(self, table: pd.DataFrame, fold: Fold) -> list[Fold]:
        """Return divisions of the train and dev part of a fold, which choose a configuration; none by default."""
        return []

    @abstractmethod
    def folds(self, table: pd.DataFrame) -> list[Fold]:
        """Return the divisions of the utterances of ``table`` (indexed by name).

        Raises:
            SerError: if the table lacks what it takes.
        """


def rolling_folds(groups: pd.Series, parts: Sequence[Sequence[str]], dev_parts: int) -> list[Fold]:
    """Return one fold per part: it is the test split, the ``dev_parts`` parts after it (cyclic) are dev.

    Args:
        groups: the group (speaker, session) of each utterance, by name.
        parts: groups that stay together; each group is in one part.
        dev_parts: how many parts are dev.
    """
    folds = []
    for k in range(len(parts)):
        dev = [group for j in range(1, dev_parts + 1) for group in parts[(k + j) % len(parts)]]
        in_test, in_dev = groups.isin(list(parts[k])), groups.isin(dev)
        names = (groups.index[chosen].tolist() for chosen in (~in_test & ~in_dev, in_dev, in_test))
        folds.append(Fold(*names))
    return folds


def whole_groups(group: str) -> Apart:
    """Return what is apart where each value of a column is in one part."""
    return {} if group == "speaker" else {group: list(PAIRS)}


def group_column(table: pd.DataFrame, column: str) -> pd.Series:
    """Return the column of groups as names, which must be there for every utterance.

    Raises:
        SerError: if it is not.
    """
    groups = as_names(table[column]) if column in table else pd.Series("", table.index)
    having = int((groups != "").sum())
    if having < len(table):
        raise SerError(
            f"splits by {column} need every utterance's {column}, found it for {having} of {len(table)}: "
            "use splits=given, or another splits.group"
        )
    return groups
