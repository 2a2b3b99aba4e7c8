"""Folds as a file: which utterances train, select and test, by name, with a hash by which runs can be compared."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from featurestore.errors import SerError
from train.labels import first_of
from train.splits import Fold

PARTS = ("train", "dev", "test")


@dataclass(frozen=True)
class Protocol:
    """The folds of a dataset."""

    dataset: str
    folds: list[Fold]

    @property
    def sha256(self) -> str:
        """The hash of the dataset's name and of all names in all parts, in their order."""
        content = json.dumps(self._content(), ensure_ascii=False, separators=(",", ":"), sort_keys=True)
        return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()

    def to_json(self) -> str:
        """Return the file's content."""
        return json.dumps({**self._content(), "sha256": self.sha256}, indent=1, ensure_ascii=False) + "\n"

    def _content(self) -> dict[str, Any]:
        return {"dataset": self.dataset, "folds": [_parts(fold) for fold in self.folds]}


class _Fold(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    train: list[str]
    dev: list[str]
    test: list[str]
    unlabelled: list[str] = []


class _Protocol(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    dataset: str
    folds: list[_Fold]
    sha256: str


def read_protocol(path: Path) -> Protocol:
    """Return the folds that a file holds.

    Raises:
        SerError: if it is not there, or holds something else, or has been changed.
    """
    try:
        found = _Protocol.model_validate_json(path.read_bytes())
    except OSError as error:
        raise SerError(f"protocol={path} cannot be read: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors()[0]
        raise SerError(f"{path} is no protocol: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    protocol = Protocol(found.dataset, [Fold(fold.train, fold.dev, fold.test, fold.unlabelled) for fold in found.folds])
    if protocol.sha256 != found.sha256:
        raise SerError(f"{path} has been changed: its hash is {protocol.sha256[:12]}…, it says {found.sha256[:12]}…")
    _check_parts(protocol, path)
    return protocol


def fitting(protocol: Protocol, names: list[str], dataset: str, path: Path) -> list[Fold]:
    """Return the folds, all of whose utterances must be there.

    Raises:
        SerError: if the file is of another dataset, or names utterances that are not among ``names``.
    """
    if protocol.dataset != dataset:
        raise SerError(f"{path} is of the dataset {protocol.dataset}, the store is of {dataset}")
    known = set(names)
    absent = [
        name
        for fold in protocol.folds
        for part in (*PARTS, "unlabelled")
        for name in getattr(fold, part)
        if name not in known
    ]
    if absent:
        names = list(dict.fromkeys(absent))
        raise SerError(
            f"{path} names {len(names)} utterances that cannot be used here ({first_of(names)}): "
            "they lack a feature or a label, or the store lacks them"
        )
    return protocol.folds


def _parts(fold: Fold) -> dict[str, list[str]]:
    """Return the parts of a fold; unlabelled ones only where there are some, as few protocols have them."""
    return {part: names for part, names in asdict(fold).items() if part in PARTS or names}


def _check_parts(protocol: Protocol, path: Path) -> None:
    """Refuse a fold that has an utterance twice."""
    for number, fold in enumerate(protocol.folds):
        everyone = [*fold.train, *fold.dev, *fold.test, *fold.unlabelled]
        if len(set(everyone)) < len(everyone):
            twice = next(name for name in everyone if everyone.count(name) > 1)
            raise SerError(f"{path}: fold {number} has the utterance {twice} more than once")
