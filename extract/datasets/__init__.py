"""Datasets: one module each, from a raw layout on disk to one table of utterances and labels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from csv import Error as CsvError
from csv import reader
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import shorten
from typing import ClassVar

import pandas as pd

from featurestore.config import Component, suggest
from featurestore.errors import DatasetError


@dataclass
class Labels:
    """What a dataset says of its utterances.

    Attributes:
        table: one row per utterance, indexed by ``name``. ``path`` is the audio file (relative to the
            dataset's `Dataset.audio_folder`, or absolute). The common columns, where the dataset has them:
            ``speaker``, ``session``, ``split`` (train / dev / test), ``V``, ``A``, ``D`` (in the dataset's own
            scale), ``emotion``, ``transcript``. Everything else the dataset says stays under its own name.
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
    """Return a label file, every value as text, indexed by where each row stands, e.g. ``labels.csv line 7``.

    Raises:
        DatasetError: if it is absent, empty or not a table.
    """
    try:
        found = _read_rows(file)
    except FileNotFoundError:
        raise DatasetError(f"no label file {file}") from None
    except (CsvError, UnicodeDecodeError) as error:
        raise DatasetError(f"{file} is not a table of comma-separated values: {error}") from None
    if len(found) < 2:
        raise DatasetError(f"{file} {'has a header, but no rows' if found else 'is empty'}")
    (_, header), *rows = found
    for line, values in rows:
        if len(values) != len(header):
            raise DatasetError(f"{file} line {line} has {len(values)} values, its header has {len(header)}")
    columns = [column.strip() or f"column {number}" for number, column in enumerate(header, 1)]
    twice = sorted({column for column in columns if columns.count(column) > 1})
    if twice:
        raise DatasetError(f"{file} has more than one column {', '.join(twice)}")
    where = [f"{file.name} line {line}" for line, _ in rows]
    return pd.DataFrame([values for _, values in rows], index=where, columns=columns, dtype=str)


def _read_rows(file: Path) -> list[tuple[int, list[str]]]:
    """Return the line where each row begins, and its values; blank lines are no rows."""
    found, line = [], 1
    with file.open(encoding="utf-8-sig", newline="") as stream:
        rows = reader(stream, skipinitialspace=True, strict=True)
        for values in rows:
            if values:
                found.append((line, values))
            line = rows.line_num + 1
    return found


def check_columns(table: pd.DataFrame, wanted: Sequence[str], file: Path) -> None:
    """Check that a label file has the columns that it needs.

    Raises:
        DatasetError: naming the columns that are missing and those that were found.
    """
    missing = [column for column in wanted if column not in table]
    if missing:
        near = [hint for column in missing if "did you" in (hint := suggest(column, table.columns))]
        found = shorten(", ".join(table.columns), 300, placeholder=" ...")
        raise DatasetError(f"{file} lacks the columns {', '.join(missing)}: found {found}{''.join(near)}")


def leave_out(table: pd.DataFrame, bad: pd.Series, reason: str | pd.Series, left_out: dict[str, str]) -> pd.DataFrame:
    """Return the rows that are not ``bad``, and note in ``left_out`` why the others are not used.

    Args:
        table: with a column ``name``, indexed by where each row stands; a row without name is noted by that.
        bad: one truth value per row.
        reason: one for all, or one per row.
        left_out: where the reasons are added, by name.
    """
    reasons = pd.Series(reason, table.index)
    left_out |= {table["name"][row] or row: reasons[row] for row in table.index[bad]}
    return table[~bad]


def leave_out_nameless(table: pd.DataFrame, left_out: dict[str, str]) -> pd.DataFrame:
    """Return the rows whose name is theirs alone; the arguments are those of `leave_out`."""
    table = leave_out(table, table["name"] == "", "it has no name", left_out)
    rows = table.index.to_series().groupby(table["name"]).transform(", ".join).astype(str)
    twice = table["name"].duplicated(keep=False)
    return leave_out(table, twice, "the name is not unique, it stands in " + rows, left_out)
