"""Forced alignments: what is said when, from the files of aligners to the column ``words`` and back."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pandas as pd
from pydantic import TypeAdapter, ValidationError

from extract.labels import join_notes
from featurestore.shared.errors import DatasetError

Word = tuple[str, float, float]
"""A word, its beginning and its end, in seconds from the beginning of the utterance."""
WORDS = TypeAdapter(list[Word])
SPHINX_FRAME = 0.01
SEGMENT = re.compile(r"\s*(\d+)\s+(\d+)\s+-?\d+\s+(\S+)\s*")
AROUND_SEGMENTS = re.compile(r"\s*(SFrm\s+EFrm\s+SegAScr\s+Word|Total score:.*)?\s*")
VARIANT = re.compile(r"\(\d+\)$")
NO_WORD = re.compile(r"|<.*>|\+\+.*\+\+|sil|sp|spn", re.IGNORECASE)
LATE = 0.1
"""Seconds by which a word may end after the audio: aligners round to whole frames."""


def as_words(words: Iterable[Word]) -> str:
    """Return words as the JSON of the column ``words``.

    >>> as_words([("hello", 0.12, 0.43)])
    '[["hello",0.12,0.43]]'
    """
    rounded = [(word, round(start, 6), round(end, 6)) for word, start, end in words]
    return json.dumps(rounded, ensure_ascii=False, separators=(",", ":"))


def parse_words(said: object, seconds: float) -> list[Word]:
    """Return the words that the column ``words`` of an utterance holds.

    Args:
        said: the JSON text of the column.
        seconds: the duration of the utterance's audio.

    Raises:
        ValueError: if the text is empty or is not such JSON, or if a word ends before it begins or after the audio.
    """
    text = str(said)
    if not text.strip():
        raise ValueError(
            "it has no alignment: its column words is empty; dataset.alignments=true reads it, if the dataset has any"
        )
    try:
        words = WORDS.validate_json(text, strict=True)
    except ValidationError as error:
        expected, reason = '[["hello",0.12,0.43],…]', error.errors()[0]["msg"]
        raise ValueError(f"its column words is {text[:40]!r}, expected {expected}: {reason}") from None
    for word, start, end in words:
        if not 0 <= start <= end <= seconds + LATE:
            raise ValueError(
                f"its word {word!r} is at {start:g} to {end:g} s, expected times within its audio, 0 to {seconds:g} s"
            )
    return words


def add_words(table: pd.DataFrame, files: Sequence[Path], read: Callable[[Path], list[Word]]) -> pd.DataFrame:
    """Return the table with the column ``words``; a file that cannot be used is named in ``flags``.

    Args:
        table: of the utterances.
        files: the alignment file of each utterance; some may be missing.
        read: returns the words of a file, or raises a ValueError.

    Raises:
        DatasetError: if none of the files exists.
    """
    if not any(os.path.exists(file) for file in files):
        raise DatasetError(
            f"dataset.alignments=true, but found no alignment file, expected e.g. {[*files, 'no utterance'][0]}"
        )
    return add_sidecars(table, "words", files, lambda file: as_words(read(file)))


def add_sidecars(table: pd.DataFrame, column: str, files: Sequence[Path], read: Callable[[Path], str]) -> pd.DataFrame:
    """Return the table with a column that holds what `read` finds in each utterance's file; see `add_words`."""
    flags = table["flags"].tolist() if "flags" in table else [""] * len(table)
    found = [""] * len(table)
    for i, file in enumerate(files):
        try:
            found[i] = read(file) if _is_there(file) else ""
        except (OSError, ValueError) as error:
            why = os.strerror(error.errno or 0) if isinstance(error, OSError) else str(error)
            kind = {"words": "alignment"}.get(column, column)
            flags[i] = join_notes(flags[i], f"the {kind} {file.name} cannot be used: {why}")
    return table.assign(**{column: found}, flags=flags)


def _is_there(file: Path) -> bool:
    """Return whether a file exists; a folder, a pipe or the like in its place raises a ValueError."""
    if os.path.exists(file) and not os.path.isfile(file):
        raise ValueError("it is not a regular file")
    return os.path.exists(file)


def read_wdseg(file: Path) -> list[Word]:
    """Return the words of a segmentation by Sphinx, without silences, noises and the numbers of pronunciations.

    A frame is 10 ms long; a word includes its last frame.

    Raises:
        ValueError: if a line is not ``SFrm EFrm SegAScr Word``, or there is none.
    """
    words, segments = [], 0
    for number, line in enumerate(file.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        if match := SEGMENT.fullmatch(line):
            segments += 1
            first, last, word = int(match[1]), int(match[2]), VARIANT.sub("", match[3])
            words.append((word, first * SPHINX_FRAME, (last + 1) * SPHINX_FRAME))
        elif not AROUND_SEGMENTS.fullmatch(line):
            raise ValueError(f"line {number} is {line.strip()[:40]!r}, expected SFrm EFrm SegAScr Word")
    if not segments:
        raise ValueError("it has no line SFrm EFrm SegAScr Word")
    return _without_silence(words)


def read_textgrid(file: Path) -> list[Word]:
    """Return the words of a Praat TextGrid, from its interval tier ``words``, without silences.

    Raises:
        ValueError: if it is not a TextGrid, or has no such tier.
    """
    import parselmouth
    from parselmouth.praat import call

    try:
        grid = parselmouth.Data.read(str(file))
    except parselmouth.PraatError as error:
        raise ValueError(f"it is not a TextGrid: {str(error).splitlines()[0]}") from None
    if not isinstance(grid, parselmouth.TextGrid):
        raise ValueError(f"it is not a TextGrid, but a {type(grid).__name__}")
    tiers = {call(grid, "Get tier name", number): number for number in range(1, call(grid, "Get number of tiers") + 1)}
    tier = next((number for name, number in tiers.items() if name.strip().lower().endswith("words")), None)
    if tier is None or not call(grid, "Is interval tier", tier):
        raise ValueError(f"found the tiers {', '.join(tiers)}, expected an interval tier called words")
    numbers = range(1, call(grid, "Get number of intervals", tier) + 1)
    asked = [f"Get {what} of interval" for what in ("label", "start time", "end time")]
    return _without_silence(tuple(call(grid, what, tier, number) for what in asked) for number in numbers)


def _without_silence(words: Iterable[Word]) -> list[Word]:
    return [word for word in words if not NO_WORD.fullmatch(word[0].strip())]
