"""IEMOCAP: 10,039 turns of five dyadic sessions, ten speakers, rated for V, A, D and emotion, with transcripts.

ser-extract --dataset iemocap --root data/IEMOCAP_full_release --encoder hubert-large
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
from typing_extensions import override

from extract.alignments import add_words, read_wdseg
from extract.datasets import Dataset
from extract.labels import Labels, Scale, as_ratings, flag_outside, leave_out, leave_out_nameless, name_emotions
from featurestore.shared.errors import DatasetError

NUMBER = r"\s*([-+.\d]+)\s*"
TURN = re.compile(rf"\[{NUMBER}-{NUMBER}\]\s+(\S+)\s+(\w+)\s+\[{NUMBER},{NUMBER},{NUMBER}\]")
CATEGORIES = re.compile(r"(C-\w+):\s*(.*?);?\s*(?:\((.*)\))?\s*$")
ATTRIBUTES = re.compile(r"(A-\w+):\s*(.*?);?\s*(?:\((.*)\))?\s*$")
ATTRIBUTE = re.compile(r"(val|act|dom)\s+(\d+(?:\.\d*)?)")
TARGETS = {"val": "V", "act": "A", "dom": "D"}
NAME = re.compile(r"(?P<session>Ses0[1-5])[FM]_(?P<script>impro\d+\w*|script\d+_\d+\w*)_(?P<gender>[FM])\w*\d+")
TRANSCRIPT = re.compile(r"(\S+)\s*\[[-.\d\s]+\]:\s*(.*)")
FOUR_CLASSES = {"anger": "anger", "happiness": "happiness", "excitement": "happiness"} | {
    emotion: emotion for emotion in ("neutral", "sadness")
}


class IEMOCAP(Dataset):
    """Labels from the evaluation files; the emotion is empty where the raters did not agree (xxx).

    ``emotion_4`` has the four classes of most papers (excitement counts as happiness; 5531 turns), else it is empty.
    """

    alignments: bool = False
    """Also read the times of words, from SessionN/sentences/ForcedAlignment/DIALOG/TURN.wdseg."""

    layout: ClassVar[str] = "a folder with Session1 to Session5, as IEMOCAP_full_release is"
    CLIPS: ClassVar[int | None] = 10_039
    RANGES: ClassVar[dict[str, Scale]] = dict.fromkeys("VAD", (1.0, 5.0))
    EMOTIONS: ClassVar[dict[str, str]] = {
        "ang": "anger",
        "dis": "disgust",
        "exc": "excitement",
        "fea": "fear",
        "fru": "frustration",
        "hap": "happiness",
        "neu": "neutral",
        "oth": "other",
        "sad": "sadness",
        "sur": "surprise",
        "xxx": "",
    }

    @override
    def complete(self, labels: Labels) -> Labels:
        labels.table = _describe(labels.table, labels.left_out)
        if self.alignments:
            labels.table = add_words(labels.table, [*map(self._alignment, labels.table.index)], read_wdseg)
        return labels

    @override
    def labels(self) -> Labels:
        left_out: dict[str, str] = {}
        rows: dict[str, dict[str, Any]] = {}
        for file in self._files("dialog/EmoEvaluation"):
            rows |= _read_evaluation(file, left_out)
        if not rows:
            raise DatasetError(f"dataset iemocap: no turn in {self.folder()}; expected {self.layout}")
        table = leave_out_nameless(pd.DataFrame.from_dict(rows, orient="index"), left_out)
        known = table["emotion"].isin(self.EMOTIONS)
        table = leave_out(table, ~known, table.index + " has the unknown emotion " + table["emotion"], left_out)
        transcripts = self._transcripts()
        table["transcript"] = table["name"].map(lambda name: transcripts.get(name, ""))
        table = flag_outside(name_emotions(table, self.EMOTIONS), self.RANGES)
        return Labels(table.set_index("name"), self.RANGES, left_out)

    def _alignment(self, turn: str) -> Path:
        dialog = turn.rpartition("_")[0]
        return self.folder() / f"Session{turn[4]}/sentences/ForcedAlignment/{dialog}/{turn}.wdseg"

    def _files(self, folder: str) -> list[Path]:
        """Return the text files of all sessions, without the ``._`` files of macOS."""
        found = sorted(self.folder().glob(f"Session[1-5]/{folder}/*.txt"))
        return [file for file in found if not file.name.startswith("._")]

    def _transcripts(self) -> dict[str, str]:
        found = {}
        for file in self._files("dialog/transcriptions"):
            for line in _lines(file):
                match = TRANSCRIPT.fullmatch(line.strip())
                if match:
                    found[match[1]] = match[2].strip()
        return found


def _lines(file: Path) -> list[str]:
    return file.read_text(encoding="utf-8", errors="replace").splitlines()


def _read_evaluation(file: Path, left_out: dict[str, str]) -> dict[str, dict[str, Any]]:
    """Return the turns of a dialogue by file and line, with the ratings that follow each turn."""
    rows: dict[str, dict[str, Any]] = {}
    dialog, session = file.stem, file.parents[2].name
    ratings: list[dict[str, Any]] = []
    for number, line in enumerate(_lines(file), 1):
        where = f"{file.name} line {number}"
        turn = TURN.fullmatch(line.strip())
        if turn:
            start, end, name, emotion, *values = turn.groups()
            numbers = dict(zip(["start", "end", *"VAD"], [start, end, *values], strict=True))
            ratings = []
            rows[where] = {
                "name": name,
                "path": f"{session}/sentences/wav/{dialog}/{name}",
                "dialog": dialog,
                "emotion": emotion,
                **{key: float(value) for key, value in numbers.items()},
                "ratings": ratings,
            }
        elif line.startswith("["):
            left_out[where] = f"expected [START - END] NAME EMOTION [V, A, D], found {line.strip()[:80]}"
        else:
            ratings.extend(_rating(line))
    return {where: {**row, "ratings": as_ratings(row["ratings"])} for where, row in rows.items()}


def _rating(line: str) -> Iterator[dict[str, Any]]:
    """Yield the rating in a line: C- lines hold categories, A- lines attributes; the raters F and M are the actors."""
    comment = {}
    if match := CATEGORIES.fullmatch(line.strip()):
        comment = {"comment": match[3]} if match[3] else {}
        yield {"rater": match[1], "emotion": "; ".join(filter(None, map(str.strip, match[2].split(";")))), **comment}
    elif match := ATTRIBUTES.fullmatch(line.strip()):
        comment = {"comment": match[3]} if match[3] else {}
        values = {TARGETS[key]: float(value) for key, value in ATTRIBUTE.findall(match[2])}
        yield {"rater": match[1], **values, **comment}


def _describe(table: pd.DataFrame, left_out: dict[str, str]) -> pd.DataFrame:
    """Return the table with speaker, session, gender and script from the names of the turns, and the four classes."""
    table = table.reset_index()
    parts = table["name"].str.extract(NAME)
    reason = "the name is not of the form Ses01F_impro01_F000"
    table = leave_out(table, parts["session"].isna(), reason, left_out)
    parts = parts.loc[table.index]
    table = table.assign(
        speaker=parts["session"]
        + parts["gender"],  # of the turn; the letter in the dialogue's name is the same for both speakers
        session=parts["session"],
        gender=parts["gender"].map({"F": "female", "M": "male"}),
        script=parts["script"],
    )
    if "emotion" in table:
        table["emotion_4"] = table["emotion"].map(lambda emotion: FOUR_CLASSES.get(emotion, ""))
    return table.set_index("name")
