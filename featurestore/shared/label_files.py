"""Label files: tables of comma-separated values, every value as text, read strictly."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from csv import Error as CsvError
from csv import reader
from pathlib import Path

import pandas as pd

from featurestore.shared.errors import DatasetError, SerError

INVISIBLE = "\xad\u180e\u200b\u200c\u200d\u200e\u200f\u2060\u2061\u2062\u2063\u2064\ufeff" + "".join(
    map(chr, [*range(0x202A, 0x202F), *range(0x2066, 0x2070)])
)
SPACE = "".join(filter(str.isspace, map(chr, range(0x3001)))) + INVISIBLE
"""What is stripped: all white space, no-break spaces too, and characters without width."""
AS_IT_IS = ("transcript", "transcription", "words", "ratings", "audio_path", "path")
"""Columns whose texts are not stripped: transcripts and the like, and paths, which may have any characters."""
SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}


def read_csv(file: Path, error: type[SerError] = DatasetError) -> pd.DataFrame:
    """Return a label file, indexed by the place of each row, e.g. ``labels.csv line 7``.

    Space around values is stripped (not in the columns `AS_IT_IS`), and a warning says how often.

    Raises:
        SerError: of the kind ``error``, if it is missing, empty or not a table.
    """
    try:
        found = _read_rows(file)
    except FileNotFoundError:
        raise error(f"the label file {file} does not exist") from None
    except OSError as problem:
        raise error(f"the label file {file} cannot be read: {os.strerror(problem.errno or 0)}") from None
    except (CsvError, UnicodeDecodeError) as problem:
        hint = "; save it as UTF-8" if isinstance(problem, UnicodeDecodeError) else ""
        raise error(f"{file} is not a table of comma-separated values: {problem}{hint}") from None
    if len(found) < 2:
        raise error(f"{file} {'has a header, but no rows' if found else 'is empty'}")
    (_, header), *rows = found
    _check_shape(file, header, rows, error)
    columns = [column.strip(SPACE) or f"column {number}" for number, column in enumerate(header, 1)]
    twice = [column for column, count in pd.Series(columns).value_counts().items() if count > 1]
    if twice:
        raise error(f"{file} has more than one column {', '.join(sorted(map(str, twice))[:5])}")
    name = os.fsencode(file.name).decode(errors="backslashreplace")
    where = [f"{name} line {line}" for line, _ in rows]
    table = pd.DataFrame([values for _, values in rows], index=where, columns=columns, dtype=str)
    return strip_texts(table, str(file), [column for column in columns if column not in AS_IT_IS])


def _check_shape(file: Path, header: list[str], rows: list[tuple[int, list[str]]], error: type[SerError]) -> None:
    """Refuse a file that is not separated by commas, or has rows of other lengths than its header."""
    for separator, called in SEPARATORS.items():
        if sum(column.count(separator) for column in header) >= len(header):
            raise error(f"{file} seems to be separated by {called}, expected commas: its header is {header[0][:80]!r}")
    for line, values in rows:
        if len(values) != len(header):
            raise error(f"{file} line {line} has {len(values)} values, expected {len(header)} as in its header")


def _read_rows(file: Path) -> list[tuple[int, list[str]]]:
    """Return the line where each row begins, and its values; blank lines are skipped."""
    found, line = [], 1
    with file.open(encoding="utf-8-sig", newline="") as stream:
        rows = reader(stream, skipinitialspace=True, strict=True)
        for values in rows:
            if values:
                found.append((line, values))
            line = rows.line_num + 1
    return found


def strip_texts(table: pd.DataFrame, what: str, columns: Iterable[str]) -> pd.DataFrame:
    """Return a table without the `SPACE` around the texts of some columns; a warning says how often there was any.

    Args:
        table: with texts in these columns.
        what: the table is of, for the warning.
        columns: to be stripped.
    """
    stripped, counts = {}, {}
    for column in columns:
        stripped[column] = table[column].map(lambda text: text.strip(SPACE))
        counts[column] = int((stripped[column] != table[column]).sum())
    found = ", ".join(f"{column} {count}" for column, count in counts.items() if count)
    if found:
        logging.getLogger(__name__).warning("%s: stripped the space around values, by column: %s", what, found)
    return table.assign(**stripped) if found else table
