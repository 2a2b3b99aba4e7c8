"""Any dataset that comes as a label file: name, audio_path, V, A, split_set, and whatever else it says.

ser-extract --dataset csv --root labels.csv --encoder hubert-large dataset.ranges.V=[-2,2]
"""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from pathlib import Path
from typing import ClassVar, Self

import pandas as pd
from pydantic import model_validator

from extract.datasets import Dataset
from extract.labels import (
    Labels,
    Scale,
    check_columns,
    flag_outside,
    leave_out,
    leave_out_nameless,
    name_emotions,
    name_genders,
    read_csv,
)
from featurestore.config import Config
from featurestore.errors import DatasetError

SPLITS = {
    "train": "train",
    "training": "train",
    "dev": "dev",
    "val": "dev",
    "valid": "dev",
    "validation": "dev",
    "development": "dev",
    "test": "test",
    "test1": "test",
    "test2": "test2",
    "test3": "test3",
}
"""The parts by what label files call them; what is in a further test part is in none of train, dev and test."""
RENAMED = {
    "audio_path": "path",
    "split_set": "split",
    "discrete_emotion": "emotion",
    "transcription": "transcript",
    "SpkrID": "speaker",
    "Gender": "gender",
}
UNKNOWN_SPEAKERS = ("Unknown", "-1", "-1.0")
AUDIO_SUFFIXES = r"(?i)\.(?:wav|flac|mp3|ogg|m4a|opus)$"
LAYOUT = "a label file, or a folder with labels.csv, or with train.csv, val.csv and test.csv"


class Ranges(Config):
    """Scales, each as the lowest and the highest value."""

    V: Scale = (1.0, 5.0)
    """Valence."""
    A: Scale = (1.0, 5.0)
    """Arousal."""
    D: Scale = (1.0, 5.0)
    """Dominance."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        for target, (low, high) in self:
            if not low < high:
                raise ValueError(f"{target}=[{low:g},{high:g}] is no range, expected the lowest value first")
        return self


class CSV(Dataset):
    """A label file with the columns name, audio_path, V, A, split_set, and what else it says, e.g. D and speaker.

    V and A may be absent where there is an emotion. A folder is taken for its labels.csv, or for its train.csv,
    val.csv (or dev.csv) and test.csv, which then say the split.
    """

    ranges: Ranges = Ranges()
    """The scale on which V, A and D are declared; values outside are left out."""
    audio_root: Path | None = None
    """Where relative audio paths start; the label file's folder when absent."""
    layout: ClassVar[str] = LAYOUT

    def audio_folder(self) -> Path:  # noqa: D102
        return self.audio_root or super().audio_folder()

    def labels(self) -> Labels:
        """Return the labels; a row that cannot be used is left out, with the reason.

        Raises:
            DatasetError: if a label file is absent or not a table, or lacks a column.
        """
        return _labels(self.folder(), ["path", "split"], dict(self.ranges), keep_outside=False)


def read_label_csv(dataset: Dataset) -> Labels:
    """Return the labels of a dataset from the label file, or files, that stand in for its raw layout.

    Values outside the scale are kept and flagged; the split may be absent. Label files are made on other machines: a
    path that is not there is looked for below the dataset's root by its last parts.

    Raises:
        DatasetError: if a label file is absent or not a table, or lacks a column.
    """
    root = dataset.label_csv
    if root is None or not root.exists():
        raise DatasetError(f"dataset {dataset.name}: no label_csv {root}; expected {LAYOUT}")
    labels = _labels(root, ["path"], dataset.RANGES, keep_outside=True)
    table = labels.table
    if "emotion" in table:
        table = name_emotions(table, dataset.EMOTIONS)
    start = root if root.is_dir() else root.parent
    paths = [str(_locate(start / path, dataset.root)) for path in table["path"]]
    return Labels(table.assign(path=paths), labels.ranges, labels.left_out)


def _locate(path: Path, root: Path | None) -> Path:
    """Return ``path``, or the longest end of it that is there below ``root``."""
    if root is None or path.exists():
        return path
    ends = (root.joinpath(*path.parts[i:]) for i in range(1, len(path.parts)))
    return next((end for end in ends if end.exists()), path)


def _labels(root: Path, needed: list[str], ranges: Mapping[str, Scale], keep_outside: bool) -> Labels:
    table = pd.concat([_read(file, needed) for file in _files(root)]).fillna("")
    left_out: dict[str, str] = {}
    table = leave_out_nameless(table, left_out)
    if "split" in table:
        split = table["split"].str.strip().str.lower().map(SPLITS)
        reason = table.index + " has split_set=" + table["split"] + ", expected train, dev (val) or test"
        table = leave_out(table.assign(split=split), split.isna(), reason, left_out)
    if "speaker" in table:
        table["speaker"] = table["speaker"].mask(table["speaker"].isin(UNKNOWN_SPEAKERS), "")
    if "gender" in table:
        table["gender"] = name_genders(table["gender"])
    for target in [target for target in "VAD" if target in table]:
        table = _check_range(table, target, ranges.get(target, (-inf, inf)), left_out, keep_outside)
    ranges = {target: scale for target, scale in ranges.items() if target in table}
    if keep_outside:
        table = flag_outside(table, ranges)
    return Labels(table.set_index("name"), ranges, left_out)


def _files(root: Path) -> list[Path]:
    if root.is_file():
        return [root]
    single = root / "labels.csv"
    found = [single] if single.exists() else [f for f in sorted(root.glob("*.csv")) if f.stem.lower() in SPLITS]
    if not found:
        raise DatasetError(f"no label file in {root}; expected {LAYOUT}")
    return found


def _read(file: Path, needed: list[str]) -> pd.DataFrame:
    """Return a label file with names as they are in other files, which may lack the suffix of the audio."""
    table = read_csv(file)
    if "split_set" not in table and file.stem.lower() in SPLITS:
        table["split_set"] = file.stem
    for column, renamed in RENAMED.items():
        if column in table and renamed in table:
            raise DatasetError(f"{file} has both {column} and {renamed}, which stand for the same; remove one")
    columns = {renamed: column for column, renamed in RENAMED.items()}
    labelled = {"emotion", columns["emotion"]} & {*table.columns}
    wanted = ["name", *(columns[column] for column in needed), *([] if labelled else ["V", "A"])]
    check_columns(table, wanted, file)
    table = table.rename(columns=RENAMED)
    table["name"] = table["name"].str.strip().str.replace(AUDIO_SUFFIXES, "", regex=True)
    return table


def _check_range(
    table: pd.DataFrame, target: str, scale: Scale, left_out: dict[str, str], keep_outside: bool
) -> pd.DataFrame:
    """Return the table with ``target`` as numbers, without the rows where it is not one (within its scale)."""
    values = pd.to_numeric(table[target], errors="coerce").astype(float)
    good = values.notna() if keep_outside else values.between(*scale)
    expected = "expected a number"
    if not keep_outside:
        expected = f"expected {scale[0]:g} to {scale[1]:g} (another range: dataset.ranges.{target}=[LOW,HIGH])"
    reason = table.index + f" has {target}=" + table[target] + f", {expected}"
    absent = (table[target].str.strip() == "") & (target == "D" or "emotion" in table)  # others must have it
    return leave_out(table.assign(**{target: values}), ~(good | absent), reason, left_out)
