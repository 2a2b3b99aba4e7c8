"""Labels: one table of utterances, and what reading label files takes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from csv import Error as CsvError
from csv import reader
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import shorten
from typing import Any

import pandas as pd

from featurestore.config import suggest
from featurestore.errors import DatasetError

Scale = tuple[float, float]


@dataclass
class Labels:
    """What a dataset says of its utterances.

    Attributes:
        table: one row per utterance, indexed by ``name``. ``path`` is the audio file (relative to the
            dataset's `Dataset.audio_folder`, or absolute). The common columns, where the dataset has them:
            ``speaker``, ``session``, ``gender`` (female / male), ``split`` (train / dev / test), ``V``, ``A``, ``D``
            (in the dataset's own scale), ``emotion`` (a word, the same in all datasets; empty where the raters did not
            agree), ``transcript``, ``words`` (see `extract.alignments.as_words`), ``ratings`` (see `as_ratings`),
            ``flags`` (what is odd about it). Everything else the dataset says stays under its own name. Text that is
            missing is the empty string, a number that is missing is NaN.
        ranges: the scale on which the dataset declares V, A and D, e.g. ``{"V": (1.0, 5.0)}``.
        left_out: the utterances that cannot be used, with the reason.
    """

    table: pd.DataFrame
    ranges: dict[str, Scale] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)


def as_ratings(ratings: Iterable[Mapping[str, Any]]) -> str:
    """Return what each rater said of an utterance as the JSON of the column ``ratings``.

    Args:
        ratings: a mapping for each rater: ``rater`` (as the dataset names them) and what they said, e.g. ``V``, ``A``,
            ``D`` (numbers, absent where they are missing), ``emotion`` (in the dataset's own words).

    >>> as_ratings([{"rater": "a1", "V": 2.0}])
    '[{"rater":"a1","V":2.0}]'
    """
    return json.dumps(list(ratings), ensure_ascii=False, separators=(",", ":"))


def name_emotions(table: pd.DataFrame, words: Mapping[str, str]) -> pd.DataFrame:
    """Return the table with ``emotion`` in the common words, and as the dataset has it in ``emotion_code``.

    Args:
        table: with a column ``emotion``.
        words: by what the dataset has; what is not among them stays as it is.
    """
    codes = table["emotion"]
    return table.assign(emotion_code=codes, emotion=codes.map(lambda code: words.get(code, code)))


def name_genders(genders: pd.Series) -> pd.Series:
    """Return ``female`` and ``male`` for what datasets have; the empty string where it is not known."""
    words = {"f": "female", "female": "female", "w": "female", "m": "male", "male": "male", "unknown": ""}
    return genders.map(lambda gender: words.get(gender.strip().lower(), gender.strip()))


def flag_outside(table: pd.DataFrame, ranges: Mapping[str, Scale]) -> pd.DataFrame:
    """Return the table with V, A and D that lie outside their scale named in ``flags``; they are kept."""
    flags = [[flag] if flag else [] for flag in (table["flags"] if "flags" in table else [""] * len(table))]
    for target, (low, high) in ranges.items():
        for row, value in enumerate(table[target]):
            if value < low or value > high:
                flags[row].append(f"{target}={value:g} is outside {low:g} to {high:g}")
    return table.assign(flags=["; ".join(notes) for notes in flags])


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
