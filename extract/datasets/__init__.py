"""Datasets: one module each, from a raw layout on disk to one table of utterances and labels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import pandas as pd

from featurestore.config import Component
from featurestore.errors import DatasetError


@dataclass
class Labels:
    """What a dataset says of its utterances.

    Attributes:
        table: one row per utterance, indexed by ``name``. ``path`` is the audio file (relative to the
            dataset's `Dataset.audio_folder`, or absolute). The common columns, where the dataset has them: ``speaker``,
            ``session``, ``split`` (train / dev / test), ``V``, ``A``, ``D`` (in the dataset's own scale),
            ``emotion``, ``transcript``. Everything else the dataset says stays under its own name.
            Text that is missing is the empty string, a number that is missing is NaN.
        ranges: the scale on which the dataset declares V, A and D, e.g. ``{"V": (1.0, 5.0)}``.
        left_out: the utterances that cannot be used, with the reason.
    """

    table: pd.DataFrame
    ranges: dict[str, tuple[float, float]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)


class Dataset(Component, ABC):
    """A dataset in its raw layout."""

    root: Path | None = None
    """The folder of the dataset."""

    layout: ClassVar[str]
    """What ``root`` must hold, for the message when it does not."""

    @abstractmethod
    def labels(self) -> Labels:
        """Return the table of utterances and labels.

        Raises:
            DatasetError: if the layout or the label file cannot be used at all.
        """

    def audio_folder(self) -> Path:
        """Return the folder that relative audio paths start from: the root, or that of the label file it names."""
        root = self.folder()
        return root if root.is_dir() else root.parent

    def folder(self) -> Path:
        """Return the root.

        Raises:
            DatasetError: if it was not given or is not there.
        """
        if self.root is None:
            raise DatasetError(f"dataset {self.name} needs --root DIR: {self.layout}")
        if not self.root.exists():
            raise DatasetError(f"dataset {self.name}: no {self.root}; expected {self.layout}")
        return self.root


def read_csv(file: Path) -> pd.DataFrame:
    """Return a label file, every value as text, what is missing as the empty string.

    Raises:
        DatasetError: if it is absent, empty or not a table.
    """
    try:
        return pd.read_csv(file, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except FileNotFoundError:
        raise DatasetError(f"no label file {file}") from None
    except (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError) as error:
        raise DatasetError(f"{file} is not a table of comma-separated values: {' '.join(str(error).split())}") from None


def check_columns(table: pd.DataFrame, wanted: Sequence[str], file: Path) -> None:
    """Check that a label file has the columns that it needs.

    Raises:
        DatasetError: naming the columns that are missing and those that were found.
    """
    missing = [column for column in wanted if column not in table]
    if missing:
        found = f"found {', '.join(table.columns)}"
        raise DatasetError(f"{file} lacks the columns {', '.join(missing)}: {found}")
