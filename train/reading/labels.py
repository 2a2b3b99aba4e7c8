"""Labels as they are trained on: numbers inside their declared scale, and names without blanks around them."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from featurestore.shared.errors import SerError
from train.numerics.metrics import Groups

NAMES = ("speaker", "session", "split", "emotion")
"""Columns that hold names."""
TOLERANCE = 1e-6
"""Share of a scale that rounding may add to it, and below which labels do not differ."""
EXAMPLES = 3
Scale = tuple[float, float]


def some(names: Sequence[str]) -> str:
    """Return how many utterances these are, and the first of them.

    >>> some(["a", "b", "c", "d"])
    '4 utterances (a, b, c, …)'
    """
    return f"{len(names)} utterance{'s' if len(names) > 1 else ''} ({first_of(names)})"


def first_of(names: Sequence[str], most: int = EXAMPLES) -> str:
    """Return the first names, and a mark if there are more."""
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")


def as_names(column: pd.Series) -> pd.Series:
    """Return a column as text without blanks around it, empty where nothing is known; of 1.0 the name is 1."""
    return pd.Series([_as_name(value) for value in column], column.index, dtype=str)


def _as_name(value: Any) -> str:
    if isinstance(value, str):
        return _stripped(value)
    if pd.isna(value):
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _stripped(text: str) -> str:
    first = next((place for place, character in enumerate(text) if not _is_blank(character)), len(text))
    after = next((place for place in range(len(text), first, -1) if not _is_blank(text[place - 1])), first)
    return text[first:after]


def _is_blank(character: str) -> bool:
    """Return whether it is a space of any kind, a control character, or one of no width."""
    return character.isspace() or unicodedata.category(character) in ("Cc", "Cf")


def clean_names(table: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Return the table with its `NAMES` as `as_names` has them, and what is odd about them, a line each."""
    clean = {column: as_names(table[column]) for column in NAMES if column in table}
    remarks = [remark for column, names in clean.items() for remark in _remarks(table[column], names)]
    return table.assign(**clean), remarks


def _remarks(before: pd.Series, after: pd.Series) -> Iterator[str]:
    changed = [b for b, a in zip(before, after, strict=True) if isinstance(b, str) and a != b]
    if changed:
        yield f"{before.name}: the blanks around {len(changed)} names do not count, e.g. {changed[0]!r}"
    alike: dict[str, list[str]] = {}
    for name in sorted(set(after)):
        seen = "".join(c for c in unicodedata.normalize("NFKC", name).casefold() if not _is_blank(c))
        alike.setdefault(seen, []).append(name)
    pairs = [" and ".join(map(repr, names)) for names in alike.values() if len(names) > 1]
    if pairs:
        yield f"{before.name}: names that look alike count as different: {'; '.join(pairs[:EXAMPLES])}"


def read_ratings(name: str, text: Any) -> list[dict[str, Any]]:
    """Return the ratings of an utterance, a mapping for each rater; none of an empty text.

    Raises:
        SerError: if they are something else.
    """
    try:
        found = json.loads(text) if isinstance(text, str) and text.strip() else []
    except ValueError:
        found = None
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise SerError(f"the ratings of {name} are not JSON of the form [{{rater: …, A: …}}, …]: {str(text)[:60]!r}")
    return found


def words_said(said: Any) -> list[str]:
    """Return the categories that a rater said, which ``;`` divides.

    >>> words_said("anger; frustration"), words_said(None)
    (['anger', 'frustration'], [])
    """
    words = [word.strip() for word in ("" if said is None else str(said)).split(";")]
    return [word for word in words if word]


def numbers(table: pd.DataFrame, target: str, scale: Scale) -> pd.Series:
    """Return the labels of a dimension, NaN where there is none.

    Raises:
        SerError: if they are not numbers, or outside of their scale.
    """
    column = table[target]
    if not pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column):
        texts = as_names(column)
        if (texts != "").any():
            named = texts[texts != ""]
            raise SerError(f"label {target} of {some(list(named.index))} is no number, e.g. {named.iloc[0]!r}")
        return pd.Series(np.nan, table.index)
    room = TOLERANCE * (scale[1] - scale[0])
    outside = column[column.notna() & ~column.between(scale[0] - room, scale[1] + room)]
    if len(outside):
        raise SerError(
            f"label {target} of {some(list(outside.index))} is outside its scale, {scale[0]:g} to {scale[1]:g}, "
            f"e.g. {outside.iloc[0]:g}: correct or empty it (ser-store add-labels --replace)"
        )
    return column.astype(float)


def grouped(reasons: Iterable[tuple[str, str]]) -> list[str]:
    """Return a line for each reason: how many utterances have it, and some of them.

    Args:
        reasons: name and reason of each utterance.

    >>> grouped({"a": "no label V", "b": "no label V"}.items())
    ['2 utterances (a, b): no label V']
    """
    names: dict[str, list[str]] = {}
    for name, reason in reasons:
        names.setdefault(reason, []).append(name)
    return [f"{some(having)}: {reason}" for reason, having in names.items()]


def speaker_numbers(table: pd.DataFrame) -> Groups:
    """Return the number of each utterance's speaker; each utterance its own where speakers are not known."""
    speakers = table["speaker"].astype(str) if "speaker" in table else pd.Series("", table.index)
    owners = [speaker or f"utterance {name}" for name, speaker in speakers.items()]
    return np.unique(owners, return_inverse=True)[1].astype(np.int64)
