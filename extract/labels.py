"""Labels: one table of utterances, and functions that read label files."""

from __future__ import annotations

import json
import logging
import os
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite
from pathlib import Path
from textwrap import shorten
from typing import Annotated, Any

import pandas as pd
from pydantic import AfterValidator

from extract.audio import AudioError
from extract.audio_files import AudioFiles
from featurestore.shared.config import suggest
from featurestore.shared.errors import DatasetError
from featurestore.shared.label_files import AS_IT_IS, strip_texts

OWN = ("duration", "shard", "slot")
"""Columns that the store makes itself, so that labels cannot have them."""
NOT_TEXT = re.compile("[\0\ud800-\udfff]")
FEW = 3
"""How many places of many are named."""


def _check_scale(scale: tuple[float, float]) -> tuple[float, float]:
    low, high = scale
    if not (isfinite(low) and isfinite(high) and low < high):
        raise ValueError(f"[{low:g},{high:g}] is not a scale, expected two finite numbers, the lower one first")
    return scale


Scale = Annotated[tuple[float, float], AfterValidator(_check_scale)]
"""The lowest and the highest value."""


@dataclass
class Labels:
    """The labels of a dataset.

    Attributes:
        table: one row per utterance, indexed by ``name``. ``path`` is the audio file (relative to the
            dataset's `Dataset.audio_folder`, or absolute). The common columns, where the dataset has them:
            ``speaker``, ``session``, ``gender`` (female / male), ``split`` (train / dev / test), ``V``, ``A``, ``D``
            (in the dataset's own scale), ``emotion`` (a word, the same in all datasets; empty where the raters did not
            agree), ``transcript``, ``words`` (see `extract.alignments.as_words`), ``ratings`` (see `as_ratings`),
            ``flags`` (what is odd about it). The dataset's other columns keep their names. Missing text is the empty
            string, a missing number is NaN.
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
    """Return the table with the common names in ``emotion``, and the dataset's own in ``emotion_code``.

    Args:
        table: with a column ``emotion``.
        words: the common name by the dataset's own; other names are kept, and so is a column ``emotion_code``.
    """
    given = table["emotion"]
    codes = table.get("emotion_code", given)
    return table.assign(emotion_code=codes, emotion=given.map(lambda code: words.get(code, code)))


def name_genders(genders: pd.Series) -> pd.Series:
    """Return ``female`` or ``male`` for the words of datasets; the empty string if it is not known."""
    words = {"f": "female", "female": "female", "w": "female", "m": "male", "male": "male", "unknown": ""}
    return genders.map(lambda gender: words.get(gender.strip().lower(), gender.strip()))


def flag_outside(table: pd.DataFrame, ranges: Mapping[str, Scale]) -> pd.DataFrame:
    """Return the table with a flag where V, A or D lies outside its scale; the values are kept."""
    flags = [[flag] if flag else [] for flag in (table["flags"] if "flags" in table else [""] * len(table))]
    for target, (low, high) in ranges.items():
        for row, value in enumerate(table[target]):
            if value < low or value > high:
                flags[row].append(f"{target}={value:g} is outside {low:g} to {high:g}")
    return table.assign(flags=["; ".join(notes) for notes in flags])


def read_text(file: Path) -> str:
    """Return the text of a file of labels.

    Raises:
        DatasetError: if it cannot be read, or is not UTF-8.
    """
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DatasetError(f"{file} is not UTF-8: {error}") from None
    except OSError as error:
        raise DatasetError(f"{file} cannot be read: {os.strerror(error.errno or 0)}") from None


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


def without(table: pd.DataFrame, taken: Iterable[str], file: Path) -> pd.DataFrame:
    """Return the table of a label file without the columns whose names the dataset uses itself, with a warning."""
    lost = [column for column in table if column in set(taken)]
    if lost:
        message = "%s: its columns %s are not used: the dataset has its own of these names"
        logging.getLogger(__name__).warning(message, file, ", ".join(lost))
    return table.drop(columns=lost)


def leave_out(table: pd.DataFrame, bad: pd.Series, reason: str | pd.Series, left_out: dict[str, str]) -> pd.DataFrame:
    """Return the rows that are not ``bad``, and note in ``left_out`` why the others are not used.

    Args:
        table: with a column ``name``, indexed by file and line, which stand for the name where there is none.
        bad: one truth value per row.
        reason: one for all, or one per row.
        left_out: receives the reasons, by name.
    """
    reasons = pd.Series(reason, table.index)
    left_out |= {table["name"][row] or row: reasons[row] for row in table.index[bad]}
    return table[~bad]


def leave_out_nameless(table: pd.DataFrame, left_out: dict[str, str]) -> pd.DataFrame:
    """Return the rows with a unique name; the arguments are those of `leave_out`."""
    table = leave_out(table, table["name"] == "", "it has no name", left_out)
    twice = table["name"].duplicated(keep=False)
    places = table.index.to_series()[twice].groupby(table["name"][twice]).agg(_places)
    reasons = "the name is not unique, it stands in " + table["name"].map(places).astype(object).fillna("")
    return leave_out(table, twice, reasons, left_out)


def _places(rows: pd.Series) -> str:
    """Return where rows stand, the first ones of many."""
    more = f" and {len(rows) - FEW} more" if len(rows) > FEW else ""
    return ", ".join(rows.iloc[:FEW]) + more


def tidy(labels: Labels) -> Labels:
    """Return labels that can be stored, whichever file or dataset they come from.

    Space around texts is stripped (but not in transcripts and paths), and a warning says how often. Utterances whose
    names are the same then are left out, and so are those with text that cannot be stored. Names that differ only in
    how Unicode composes them are flagged. Columns with a name of the store's own are dropped, with a warning.
    """
    table, left_out = labels.table, dict(labels.left_out)
    own = [column for column in OWN if column in table]
    if own:
        message = "the labels' columns %s are not used: the store has its own of that name"
        logging.getLogger(__name__).warning(message, ", ".join(own))
    table = table.drop(columns=own).reset_index(names="name")
    texts = [column for column in table if not pd.api.types.is_numeric_dtype(table[column])]
    table = strip_texts(table, "the labels", [str(column) for column in texts if column not in AS_IT_IS])
    for column in texts:
        bad = table[column].map(lambda text: bool(NOT_TEXT.search(text))).astype(bool)
        reason = f"its {column} holds a NUL character, or bytes that are not UTF-8"
        table = leave_out(table, bad, reason, left_out)
    table = leave_out(table, table["name"] == "", "it has no name", left_out)
    reason = "the name is not unique: another one differs from it only by space around it"
    table = leave_out(table, table["name"].duplicated(keep=False), reason, left_out)
    left_out = {readable(name): readable(why) for name, why in left_out.items()}
    return replace(labels, table=_flag_compositions(table.set_index("name")), left_out=left_out)


def _flag_compositions(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with a flag on names that are the same in Unicode's normal form."""
    for column in {"speaker", "session"} & {*table.columns}:
        found = table[column].drop_duplicates()
        if found.map(_composed).duplicated().any():
            message = "the column %s has values that differ only in how Unicode composes them: they count as different"
            logging.getLogger(__name__).warning(message, column)
    composed = table.index.to_series().map(_composed)
    if composed.is_unique:
        return table
    twice = composed.duplicated(keep=False)
    note = "its name differs from another one only in how Unicode composes it"
    flags = table["flags"] if "flags" in table else pd.Series("", table.index)
    return table.assign(flags=[join_notes(flag, note if one else "") for flag, one in zip(flags, twice, strict=True)])


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def join_notes(*notes: str) -> str:
    """Return the notes that are not empty as one.

    >>> join_notes("clipped", "", "silent")
    'clipped; silent'
    """
    return "; ".join(filter(None, notes))


def readable(text: str) -> str:
    """Return text in which bytes that are not UTF-8 are escaped."""
    try:
        return text.encode(errors="surrogateescape").decode(errors="backslashreplace")
    except UnicodeEncodeError:  # a lone surrogate that stands for no byte
        return text.encode(errors="backslashreplace").decode()


def find_audio(labels: Labels, folder: Path) -> Labels:
    """Return labels with the path of the audio file that exists, whatever its format.

    An utterance without a file keeps its path; one with several files is left out.
    """
    files, paths, unusable = AudioFiles(), [], {}
    for name, path in zip(labels.table.index, labels.table["path"], strict=True):
        paths.append(path)
        if not Path(path).name.strip():
            unusable[name] = "its labels name no audio file"
            continue
        try:
            found = files.find(folder / path)
        except AudioError as error:
            unusable[name] = readable(str(error))
            continue
        if found is not None and found.name != Path(path).name:
            paths[-1] = str(Path(path).with_name(found.name))
    table = labels.table.assign(path=paths)
    return replace(labels, table=table.drop(index=list(unusable)), left_out=labels.left_out | unusable)
