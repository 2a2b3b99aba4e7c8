"""MSP-Podcast, in all its releases: spontaneous speech, each turn rated by five people or more for A, V, D and emotion.

ser-extract --dataset msp-podcast --root data/MSP-PODCAST-Publish-1.11 --encoder wavlm-large
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from math import isfinite, isnan
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
from typing_extensions import override

from extract.alignments import add_sidecars, add_words, read_textgrid
from extract.audio_files import AudioFiles, split_suffix
from extract.datasets import Dataset
from extract.datasets.csv import SPLITS, UNKNOWN_SPEAKERS
from extract.labels import (
    Labels,
    Scale,
    as_ratings,
    check_columns,
    flag_outside,
    leave_out_nameless,
    name_emotions,
    name_genders,
    read_text,
    without,
)
from featurestore.shared.errors import DatasetError
from featurestore.shared.label_files import read_csv

CONSENSUS = ("labels_consensus", "labels_concensus")  # earlier releases misspell it
ATTRIBUTES = {"EmoVal": "V", "EmoAct": "A", "EmoDom": "D"}  # by name: their order is not the same in all releases
ALIGNMENT_FOLDERS = ("ForceAligned_data", "ForceAligned", "TextGrids", "Alignments")
AUDIO_FOLDERS = ("Audios", "Audio", "audios", "audio", "wav", "wavs")
OWN = ("name", "path", *"VAD", "emotion", "speaker", "gender", "split", "ratings", "transcript", "flags")
"""Columns that the dataset makes itself."""
FILE = re.compile(r"[^;,\s]+\.[A-Za-z]\w*")
ATTRIBUTE_PART = re.compile(r"\s*[VAD]\s*:")
ATTRIBUTE = re.compile(r"\b([VAD])\s*:\s*(\d+(?:\.\d*)?)")


class MSPPodcast(Dataset):
    """The consensus of the raters, and what each of them said where the release has it.

    Test1 is the split test, Test2 and Test3 are test2 and test3, which splits=given does not use; Test3 has no labels.
    """

    alignments: bool = False
    """Also read the times of words, from ForceAligned_data/TURN.TextGrid (or a folder of a like name); slow."""

    layout: ClassVar[str] = "a folder with Labels/labels_consensus.csv (or .json) and Audios/*.wav"
    RANGES: ClassVar[dict[str, Scale]] = dict.fromkeys("VAD", (1.0, 7.0))
    EMOTIONS: ClassVar[dict[str, str]] = {
        "A": "anger",
        "C": "contempt",
        "D": "disgust",
        "F": "fear",
        "H": "happiness",
        "N": "neutral",
        "O": "other",
        "S": "sadness",
        "U": "surprise",
        "X": "",
    }

    @override
    def complete(self, labels: Labels) -> Labels:
        if self.alignments:
            folder = self._folder_of(ALIGNMENT_FOLDERS)
            files = [self.folder() / folder / f"{name}.TextGrid" for name in labels.table.index]
            labels.table = add_words(labels.table, files, read_textgrid)
        return labels

    @override
    def labels(self) -> Labels:
        left_out: dict[str, str] = {}
        table = self._consensus()
        table["name"] = table["FileName"].map(lambda file: split_suffix(file)[0])
        table = leave_out_nameless(table, left_out)
        table = table.rename(columns=ATTRIBUTES | {"EmoClass": "emotion"})
        given = {target: table[target].str.strip() for target in self.RANGES}
        for target, texts in given.items():
            table[target] = pd.to_numeric(texts, errors="coerce").astype(float)
        wrong: list[list[str]] = [[] for _ in range(len(table))]
        for target, texts in given.items():
            for row, (text, value) in enumerate(zip(texts, table[target], strict=True)):
                if text and isnan(value):
                    wrong[row].append(f"{target}={text!r} is not a number")
        table["flags"] = ["; ".join(notes) for notes in wrong]
        if "emotion" in table:
            table = name_emotions(table, self.EMOTIONS)
        table = flag_outside(self._speakers(self._split(table)), self.RANGES)
        table["path"] = f"{self._folder_of(AUDIO_FOLDERS)}/" + table["FileName"]
        return Labels(self._spoken(self._rated(table)).set_index("name"), self.RANGES, left_out)

    def lacking(self, labels: Labels) -> str:
        """Return a message if turns have no audio; how many turns there are differs between releases."""
        files, folder, turns = AudioFiles(), self.audio_folder(), len(labels.table)
        there = sum(files.has(folder / path) for path in labels.table["path"])
        if there == turns:
            return ""
        return f"dataset {self.name}: found the audio of {there} turns in {self.folder()}, its labels name {turns}"

    def _folder_of(self, names: Sequence[str]) -> str:
        """Return the first of these folders that exists; if none does, the first."""
        return next((folder for folder in names if (self.folder() / folder).is_dir()), names[0])

    def _file(self, *names: str) -> Path | None:
        """Return the first of these files that exists, in the folder of labels or beside it."""
        folders = [self.folder() / "Labels", self.folder() / "labels", self.folder()]
        return next((file for folder in folders for name in names if os.path.exists(file := folder / name)), None)

    def _consensus(self) -> pd.DataFrame:
        file = self._file(*(f"{name}{suffix}" for suffix in (".csv", ".json") for name in CONSENSUS))
        if file is None:
            raise DatasetError(
                f"dataset msp_podcast: no labels_consensus.csv in {self.folder()}; expected {self.layout}"
            )
        table = read_csv(file) if file.suffix == ".csv" else _as_table(file)
        check_columns(table, ["FileName", *ATTRIBUTES], file)
        return without(table, OWN, file)

    def _split(self, table: pd.DataFrame) -> pd.DataFrame:
        if "Split_Set" not in table:
            file = self._file("partitions.txt", "Partitions.txt")
            given = dict(_pairs(file, SPLITS)) if file else {}
            table["Split_Set"] = table["name"].map(lambda name: given.get(name, ""))
        split = table["Split_Set"].str.strip().str.lower().map(lambda given: SPLITS.get(given, ""))
        return table.assign(split=split)

    def _speakers(self, table: pd.DataFrame) -> pd.DataFrame:
        if "SpkrID" not in table:
            file = self._file("Speaker_ids.txt", "Speaker_Ids.txt", "speaker_ids.txt")
            given = dict(_pairs(file)) if file else {}
            table["SpkrID"] = table["name"].map(lambda name: given.get(name, ""))
        speaker = table["SpkrID"].str.strip()
        if "Gender" in table:
            table["gender"] = name_genders(table["Gender"])
        return table.assign(speaker=speaker.mask(speaker.isin(UNKNOWN_SPEAKERS), "").str.removesuffix(".0"))

    def _rated(self, table: pd.DataFrame) -> pd.DataFrame:
        file = self._file("labels_detailed.csv", "labels_detailed.json", "labels.txt")
        if file is None:
            return table
        found: dict[str, list[dict[str, Any]]] = {}
        readers = {".csv": _details_csv, ".json": _details_json, ".txt": _details_text}
        for name, rating in readers[file.suffix](file):
            found.setdefault(split_suffix(name)[0], []).append(rating)
        return table.assign(ratings=[as_ratings(found.get(name, [])) for name in table["name"]])

    def _spoken(self, table: pd.DataFrame) -> pd.DataFrame:
        folder = self.folder() / "Transcripts"
        if not folder.is_dir():
            return table
        return add_sidecars(table, "transcript", [folder / f"{name}.txt" for name in table["name"]], _transcript)


def _transcript(file: Path) -> str:
    return file.read_text(encoding="utf-8", errors="replace").strip()


def _read_json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(read_text(file))
        json.dumps(content, ensure_ascii=False).encode()  # lone surrogates cannot be stored
    except ValueError as error:
        raise DatasetError(f"{file} is not JSON: {error}") from None
    if not isinstance(content, dict):
        raise DatasetError(f"{file} holds a {type(content).__name__}, expected an object with the files as its keys")
    odd = next((name for name, said in content.items() if not isinstance(said, dict)), None)
    if odd is not None:
        raise DatasetError(f"{file} holds a {type(content[odd]).__name__} for {odd}, expected an object")
    return content


def _as_table(file: Path) -> pd.DataFrame:
    content = _read_json(file)
    table = pd.DataFrame([{"FileName": name, **values} for name, values in content.items()], dtype=object)
    table = table.mask(table.isna(), "").astype(str)
    return table.set_axis([f"{file.name} entry {number}" for number in range(1, len(table) + 1)])


def _pairs(file: Path, words: dict[str, str] | None = None) -> Iterator[tuple[str, str]]:
    """Yield the turn and the other word of each line; their order differs between releases."""
    for line in read_text(file).splitlines():
        audio = FILE.search(line)
        others = [part.strip() for part in re.split("[;,\t]", line) if part.strip() and not FILE.search(part)]
        others = [part for part in others if words is None or part.lower() in words]
        if audio and others:
            yield split_suffix(audio[0])[0], others[0]


def _details_csv(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the ratings; some releases hold each in one column as text, others in a column per value."""
    table = read_csv(file)
    check_columns(table, ["FileName"], file)
    if "EmoDetail" in table:
        for name, detail in zip(table["FileName"], table["EmoDetail"], strict=True):
            yield name, _rating(detail)
        return
    columns = ["FileName", "Workers", "EmoClass_Major", "EmoClass_Second", *ATTRIBUTES]
    check_columns(table, columns, file)
    for name, rater, *said in table[columns].itertuples(index=False):
        yield name, _rating_of(rater, dict(zip(columns[2:], said, strict=True)))


def _details_text(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the ratings of ``labels.txt``: blocks of a line with the file and its consensus, then one per rater."""
    name = None
    for line in read_text(file).splitlines():
        audio = FILE.match(line)
        if audio:
            name = audio[0]
        elif line.strip() and name:
            yield name, _rating(line)


def _rating(detail: str) -> dict[str, Any]:
    """Return e.g. ``WORKER00014332; Contempt; Contempt,Angry; A:4.0; V:3.0; D:4.0;`` as a rating."""
    words = [part.strip() for part in detail.split(";") if not ATTRIBUTE_PART.match(part)]
    rater, emotion, others, *_ = [*words, "", ""]
    values = {target: float(value) for target, value in ATTRIBUTE.findall(detail)}
    return {"rater": rater, "emotion": emotion, "emotions": others, **values}


def _details_json(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, workers in _read_json(file).items():
        for rater, said in ((rater, said) for rater, said in workers.items() if isinstance(said, dict)):
            yield name, _rating_of(rater, said)


def _rating_of(rater: str, said: Mapping[str, Any]) -> dict[str, Any]:
    words = {"emotion": said.get("EmoClass_Major", ""), "emotions": said.get("EmoClass_Second", "")}
    values = {target: _number(said.get(key)) for key, target in ATTRIBUTES.items()}
    return {"rater": rater, **words, **{target: value for target, value in values.items() if value is not None}}


def _number(said: Any) -> float | None:
    """Return a rating, None where a rater gave none: it is empty then, or a word like ``n/a``."""
    try:
        value = float(said)
    except (TypeError, ValueError):
        return None
    return value if isfinite(value) else None
