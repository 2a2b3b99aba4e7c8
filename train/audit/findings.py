"""What the checks of the audit look at, and what they return."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from train.examples.protocol import PARTS, Protocol
from train.reading.corpora import AnyFeature, AnyStore
from train.reading.labels import as_names, first_of
from train.splits import PAIRS, Fold

Ints = npt.NDArray[np.int64]
LEAST_DIM = 12
"""Values of a frame from which on it tells recordings apart; F0 does not."""


@dataclass(frozen=True)
class Finding:
    """Something that is in two parts of a fold.

    Attributes:
        name: of the check, and of what allows it below ``unsafe``.
        fold: which one.
        parts: the two.
        what: is in both, in words.
        examples: the first of them.
        count: how many there are.
    """

    name: str
    fold: str
    parts: tuple[str, str]
    what: str
    examples: list[str]
    count: int

    def __str__(self) -> str:
        found = first_of(self.examples) if self.count <= len(self.examples) else ", ".join([*self.examples, "…"])
        return f"{self.name}: {self.fold}: {self.count} {self.what} {self.parts[0]} and in {self.parts[1]} ({found})"

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return {**vars(self), "parts": list(self.parts)}


@dataclass(frozen=True)
class Pair:
    """Two utterances that are one recording.

    Attributes:
        first: its row in the table.
        second: the other's.
        note: how alike they are.
    """

    first: int
    second: int
    note: str = ""


@dataclass(frozen=True)
class Audited:
    """A protocol, and the utterances that it divides.

    Attributes:
        store: that has their frames.
        table: of them; a row is a position in it.
        protocol: with all folds.
        targets: the columns that are predicted.
        remarks: of the checks, on what they could not look at.
    """

    store: AnyStore
    table: pd.DataFrame
    protocol: Protocol
    targets: list[str]
    remarks: list[str] = field(default_factory=list)

    @cached_property
    def folds(self) -> dict[str, Fold]:
        """All folds by what they are called, the inner ones after the outer ones."""
        found = {f"fold {number}": fold for number, fold in enumerate(self.protocol.folds)}
        for number, inner in enumerate(self.protocol.inner):
            found |= {f"fold {number}, inner fold {place}": fold for place, fold in enumerate(inner)}
        return found

    @cached_property
    def parts(self) -> npt.NDArray[np.int8]:
        """The part in which each utterance is, (folds, utterances): its place in `PARTS` + 1, 0 where it is in none."""
        found = np.zeros((len(self.folds), len(self.table)), np.int8)
        for row, fold in zip(found, self.folds.values(), strict=True):
            for number, part in enumerate(PARTS, 1):
                row[self.table.index.get_indexer(pd.Index(getattr(fold, part)))] = number
        return found

    @cached_property
    def audio(self) -> AnyFeature | None:
        """The feature by which recordings are compared: log-mel, or else the one with the most values a frame."""
        able = {name: spec for name, spec in self.store.features.items() if spec.hop and spec.dim >= LEAST_DIM}
        if not able:
            return None
        best = max(able, key=lambda name: (is_log_mel(able[name].provenance), able[name].dim))
        return self.store.feature(best)

    @cached_property
    def comparable(self) -> list[int]:
        """The rows of utterances that have frames of `audio`."""
        failed = self.audio.failed if self.audio else {}
        return [row for row, name in enumerate(self.table.index) if name not in failed]

    def crossing(self, first: Ints, second: Ints) -> npt.NDArray[np.bool_]:
        """Return for each two rows whether they are in different parts of any fold."""
        kinds, differ = self._kinds
        return differ[kinds[first], kinds[second]]

    @cached_property
    def _kinds(self) -> tuple[Ints, npt.NDArray[np.bool_]]:
        """Return for each row which parts it is in, as a number, and for each two of these whether any differ."""
        kinds, of = np.unique(self.parts, axis=1, return_inverse=True)
        differ = np.zeros((kinds.shape[1], kinds.shape[1]), bool)
        for parts in kinds:
            differ |= (parts[:, None] != parts) & (parts[:, None] > 0) & (parts > 0)
        return of.ravel(), differ

    def across(self, name: str, what: str, pairs: Iterable[Pair]) -> Iterator[Finding]:
        """Yield a finding for each fold and two of its parts between which there are pairs."""
        pairs = list(pairs)
        if not pairs:
            return
        first, second = (np.array([getattr(pair, end) for pair in pairs]) for end in ("first", "second"))
        for fold, parts in zip(self.folds, self.parts, strict=True):
            low, high = np.minimum(parts[first], parts[second]), np.maximum(parts[first], parts[second])
            for ends in PAIRS:
                a, b = (PARTS.index(part) + 1 for part in ends.split("/"))
                chosen = np.flatnonzero((low == a) & (high == b))
                if len(chosen):
                    examples = [self._words(pairs[number]) for number in chosen[:3].tolist()]
                    yield Finding(name, fold, (PARTS[a - 1], PARTS[b - 1]), what, examples, len(chosen))

    def _words(self, pair: Pair) -> str:
        names = f"{self.table.index[pair.first]} and {self.table.index[pair.second]}"
        return f"{names}, {pair.note}" if pair.note else names

    def shared(self, name: str, column: str, what: str, wanted: Iterable[str] = PAIRS) -> Iterator[Finding]:
        """Yield a finding for each fold and two of its parts that have values of a column in common."""
        values = as_names(self.table[column])
        for fold, division in self.folds.items():
            found = {part: set(values.loc[getattr(division, part)]) - {""} for part in PARTS}
            for ends in wanted:
                a, b = ends.split("/")
                both = sorted(found[a] & found[b])
                if both:
                    yield Finding(name, fold, (a, b), what, both[:3], len(both))


def is_log_mel(provenance: dict[str, Any]) -> bool:
    """Return whether a feature with this provenance is log-mel."""
    return dict(provenance.get("settings", {})).get("name") == "logmel"
