"""Folds as a file: which utterances train, select and test, by name, with a hash by which runs can be compared."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import BaseModel, ConfigDict, ValidationError

from featurestore.shared.errors import SerError
from train.reading.labels import first_of, some
from train.splits import Apart, Fold, Splits

PARTS = ("train", "dev", "test")
LABELS = ("speaker", "session", "split", "emotion", "V", "A", "D")
"""Columns that a protocol notes the content of, where the table has them."""
TWICE = {
    ("train", "test"): "train_on_test",
    ("dev", "test"): "select_on_test",
    ("train", "dev"): "select_on_train",
    ("unlabelled", "test"): "adapt_to_test",
}
"""What it is called where an utterance is in two parts of a fold."""
ABOUT = ("name", "dataset", "splits", "apart", "unsafe", "columns", "labels_sha256")
"""What its file says beside the folds."""


@dataclass(frozen=True)
class Protocol:
    """The folds of a dataset.

    Attributes:
        dataset: whose utterances they divide.
        folds: outer ones, each of which is trained and tested.
        inner: for each of them those of its train and dev part; empty if there are none.
        name: by which people know it.
        splits: the settings that made it.
        apart: which columns it keeps apart, beside speakers.
        unsafe: settings below ``unsafe`` without which it is refused.
        columns: of the table whose content it notes.
        labels_sha256: the hash of that content.
    """

    dataset: str
    folds: list[Fold]
    inner: list[list[Fold]] = field(default_factory=list)
    name: str = ""
    splits: dict[str, Any] = field(default_factory=dict)
    apart: Apart = field(default_factory=dict)
    unsafe: list[str] = field(default_factory=list)
    columns: list[str] = field(default_factory=list)
    labels_sha256: str = ""

    @cached_property
    def sha256(self) -> str:
        """The hash of the dataset's name, of all names in all parts, in their order, and of what is kept apart."""
        content: dict[str, Any] = {"dataset": self.dataset, "folds": [_parts(fold) for fold in self.folds]}
        if any(self.inner):
            content["inner"] = [[_parts(fold) for fold in folds] for folds in self.inner]
        if self.apart:
            content["apart"] = self.apart
        return _hash(content)

    @property
    def utterances(self) -> list[str]:
        """The names in any part of any fold, each once."""
        return list(
            dict.fromkeys(name for fold in self.all_folds() for names in _parts(fold).values() for name in names)
        )

    def all_folds(self) -> Iterator[Fold]:
        """Yield the outer folds, then the inner ones."""
        yield from self.folds
        for folds in self.inner:
            yield from folds

    def to_json(self) -> str:
        """Return the file's content."""
        about = {key: getattr(self, key) for key in ABOUT}
        folds = {"folds": [_parts(fold) for fold in self.folds]}
        inner = {"inner": [[_parts(fold) for fold in folds] for folds in self.inner]} if self.inner else {}
        return json.dumps({**about, **folds, **inner, "sha256": self.sha256}, indent=1, ensure_ascii=False) + "\n"


class _Fold(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    train: list[str]
    dev: list[str]
    test: list[str]
    unlabelled: list[str] = []

    def fold(self) -> Fold:
        return Fold(self.train, self.dev, self.test, self.unlabelled)


class _Protocol(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    name: str = ""
    dataset: str
    splits: dict[str, Any] = {}
    apart: dict[str, list[str]] = {}
    unsafe: list[str] = []
    columns: list[str] = []
    labels_sha256: str = ""
    folds: list[_Fold]
    inner: list[list[_Fold]] = []
    sha256: str


def make_protocol(splits: Splits, table: pd.DataFrame, dataset: str, name: str | None = None) -> Protocol:
    """Return the folds that ``splits`` make of the utterances of a table, indexed by name.

    Args:
        splits: how they are divided.
        table: of the utterances.
        dataset: that they are of.
        name: of the protocol; that of the splits when absent.

    Raises:
        SerError: if the table lacks what it takes.
    """
    folds = splits.folds(table)
    inner = [splits.inner(table, fold) for fold in folds]
    settings = splits.to_dict()
    rested = [value for value in settings.values() if isinstance(value, str) and value in table]
    columns = list(dict.fromkeys([column for column in LABELS if column in table] + rested))
    protocol = Protocol(
        dataset,
        folds,
        inner if any(inner) else [],
        name or splits.name,
        settings,
        splits.apart,
        [splits.unsafe] if splits.unsafe else [],
        columns,
    )
    return replace(protocol, labels_sha256=labels_hash(protocol, table))


def labels_hash(protocol: Protocol, table: pd.DataFrame) -> str:
    """Return the hash of what a table says of the utterances of a protocol, in the columns that it notes."""
    present = [name for name in sorted(protocol.utterances) if name in table.index]
    found = table.loc[present]
    rows = [list(map(_as_text, found[column])) if column in found else [] for column in protocol.columns]
    return _hash([present, rows])


def changed_labels(protocol: Protocol, table: pd.DataFrame) -> list[str]:
    """Return a line if a table says something else of the utterances than when the protocol was made."""
    if not protocol.labels_sha256 or labels_hash(protocol, table) == protocol.labels_sha256:
        return []
    return [f"{', '.join(protocol.columns)} of some utterances are not what they were when the protocol was made"]


def read_protocol(path: Path) -> Protocol:
    """Return the folds that a file holds.

    Raises:
        SerError: if it is not there, or holds something else, or has been changed.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SerError(f"protocol={path} cannot be read: {error.strerror}") from None
    if content not in _LAST:
        protocol = _protocol_of(content, path)
        _LAST.clear()
        _LAST[content] = protocol
    return _LAST[content]


_LAST: dict[bytes, Protocol] = {}
"""The one that was read last, by the content of its file: the runs of a sweep have the same."""


def _protocol_of(content: bytes, path: Path) -> Protocol:
    try:
        found = _Protocol.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        raise SerError(f"{path} is no protocol: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    folds, inner = [fold.fold() for fold in found.folds], [[fold.fold() for fold in folds] for folds in found.inner]
    protocol = Protocol(folds=folds, inner=inner, **{key: getattr(found, key) for key in ABOUT})
    if protocol.sha256 != found.sha256:
        raise SerError(f"{path} has been changed: its hash is {protocol.sha256[:12]}…, it says {found.sha256[:12]}…")
    if inner and len(inner) != len(folds):
        raise SerError(f"{path} has inner folds of {len(inner)} folds, expected them of all {len(folds)}")
    _check_parts(protocol, path)
    return protocol


def fitting(protocol: Protocol, names: Sequence[str], dataset: str, path: Path) -> Protocol:
    """Return the protocol, all of whose utterances must be there.

    Raises:
        SerError: if the file is of another dataset, or names utterances that are not among ``names``.
    """
    if protocol.dataset != dataset:
        raise SerError(f"{path} is of the dataset {protocol.dataset}, the store is of {dataset}")
    known = set(names)
    absent = [name for name in protocol.utterances if name not in known]
    if absent:
        raise SerError(
            f"{path} names {len(absent)} utterances that cannot be used here ({first_of(absent)}): "
            "they lack a feature or a label, or the store lacks them"
        )
    return protocol


def _parts(fold: Fold) -> dict[str, list[str]]:
    """Return the parts of a fold; unlabelled ones only where there are some, as few protocols have them."""
    return {part: names for part, names in vars(fold).items() if part in PARTS or names}


def _check_parts(protocol: Protocol, path: Path) -> None:
    """Refuse a fold that has an utterance twice, and an inner one that has what its outer fold tests."""
    for number, fold in enumerate(protocol.all_folds()):
        for (a, b), name in TWICE.items():
            both = sorted(set(getattr(fold, a)) & set(getattr(fold, b)))
            if both:
                raise SerError(
                    f"{path}: {name}: fold {number} has {some(both)} in {a} and in {b}: leave one of the two"
                )
        for part in PARTS:
            names = pd.Index(getattr(fold, part))
            if not names.is_unique:
                twice = names[names.duplicated()][0]
                raise SerError(f"{path}: fold {number} has the utterance {twice} more than once in {part}")
    for number, (fold, inner) in enumerate(zip(protocol.folds, protocol.inner, strict=bool(protocol.inner))):
        tested = set(fold.test) & {name for one in inner for part in PARTS for name in getattr(one, part)}
        if tested:
            raise SerError(f"{path}: an inner fold of fold {number} has {min(tested)}, which the fold tests")


def _as_text(value: Any) -> str:
    return "" if pd.isna(value) else str(value)


def _hash(content: Any) -> str:
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
