"""Faults of protocols that are in use, each by its own name: to reproduce figures, never to report them."""

from __future__ import annotations

from collections.abc import Iterable

from featurestore.shared.config import Config
from featurestore.shared.errors import SerError
from train.splits import Fold

UNSAFE = "UNSAFE.txt"
"""The file of a run whose figures cannot be compared; plots are stamped where it is."""


class UnsafeConfig(Config):
    """What would be an error otherwise; a run with any of these is stamped, and its figures cannot be compared."""

    shared_speakers: bool = False
    """Parts of a fold have speakers in common."""
    shared_sessions: bool = False
    """Parts of a fold have sessions in common that the splits keep apart."""
    same_audio: bool = False
    """Parts of a fold have the same audio under two names."""
    near_duplicates: bool = False
    """Parts of a fold have copies of a recording: encoded again, louder, shifted, cut."""
    random_splits: bool = False
    """Utterances are divided at random, whoever speaks (``splits=random``)."""
    select_on_test: bool = False
    """The test part selects the best epoch, and dev trains."""
    train_on_test: bool = False
    """The test part trains, too."""
    statistics_of_all: bool = False
    """Features are standardised by train, dev and test together."""

    @property
    def names(self) -> list[str]:
        """Those that are set."""
        return [name for name in type(self).model_fields if getattr(self, name)]

    def refuse(self, needed: Iterable[str], what: str) -> None:
        """Refuse what needs settings that are not set.

        Raises:
            SerError: naming them.
        """
        missing = [name for name in needed if name not in self.names]
        if missing:
            asked = " ".join(f"unsafe.{name}=true" for name in missing)
            raise SerError(f"{what} has the same speakers in train and test: choose other splits, or give {asked}")

    def excuses(self, finding: str) -> bool:
        """Return whether a finding of the audit is meant; splits at random share speakers."""
        return finding in self.names or (finding in ("shared_speakers", "shared_sessions") and self.random_splits)

    def trained_on(self, fold: Fold) -> tuple[list[str], list[str]]:
        """Return the names of the utterances that train a model of a fold, and of those that select its epoch."""
        train, dev = fold.train, fold.dev
        if self.select_on_test:
            train, dev = [*train, *dev], fold.test
        return [*train, *fold.test] if self.train_on_test else train, dev


def stamp(names: Iterable[str]) -> str:
    """Return the line that says that figures cannot be compared.

    >>> stamp(["random_splits"])
    'UNSAFE: random_splits: not comparable'
    """
    return f"UNSAFE: {', '.join(names)}: not comparable"
