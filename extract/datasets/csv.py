"""Any dataset with a label file, which has the columns name and audio_path, and labels.

ser-extract --dataset csv --root labels.csv --encoder hubert-large dataset.ranges.V=[-2,2]
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from math import inf
from pathlib import Path
from typing import ClassVar

import pandas as pd
from typing_extensions import override

from extract.audio_files import AudioFiles, split_suffix
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
    readable,
)
from featurestore.shared.config import Config
from featurestore.shared.errors import DatasetError
from featurestore.shared.label_files import read_csv

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
"""The splits by their names in label files; test2 and test3 belong to none of train, dev and test."""
RENAMED = {
    "audio_path": "path",
    "split_set": "split",
    "discrete_emotion": "emotion",
    "transcription": "transcript",
    "SpkrID": "speaker",
    "Gender": "gender",
}
UNKNOWN_SPEAKERS = ("Unknown", "-1", "-1.0")
LAYOUT = "a label file, or a folder with labels.csv, or with train.csv, val.csv and test.csv"


class Scales(Config):
    """Scales, each as the lowest and the highest value."""

    V: Scale = (1.0, 5.0)
    """Valence."""
    A: Scale = (1.0, 5.0)
    """Arousal."""
    D: Scale = (1.0, 5.0)
    """Dominance."""


class CSV(Dataset):
    """A label file with the columns name and audio_path, and any of V, A, D, emotion, split_set, speaker and others.

    In a folder, labels.csv is read, or else train.csv, val.csv (or dev.csv) and test.csv, whose names give the split.
    """

    ranges: Scales = Scales()
    """The scale on which V, A and D are declared; values outside are left out."""
    audio_root: Path | None = None
    """Where relative audio paths start; the label file's folder when absent."""
    layout: ClassVar[str] = LAYOUT
    takes_file: ClassVar[bool] = True

    @override
    def audio_folder(self) -> Path:
        return self.audio_root or super().audio_folder()

    def labels(self) -> Labels:
        """Return the labels; a row that cannot be used is left out, with the reason.

        Raises:
            DatasetError: if a label file is missing or not a table, or lacks a column.
        """
        return _labels(self.folder(), dict(self.ranges), keep_outside=False)


def read_label_csv(dataset: Dataset) -> Labels:
    """Return the labels of a dataset from the label files that replace its raw layout.

    Values outside the scale are kept and flagged. Label files may come from another machine: a path that does not exist
    is looked for below the dataset's root, with fewer and fewer of its folders.

    Raises:
        DatasetError: if a label file is missing or not a table, or lacks a column.
    """
    root = dataset.label_csv
    if root is None or not os.path.exists(root):
        raise DatasetError(f"dataset {dataset.name}: no label_csv {root}; expected {LAYOUT}")
    labels = _labels(root, dataset.RANGES, keep_outside=True)
    table = labels.table
    if "emotion" in table:
        table = name_emotions(table, dataset.EMOTIONS)
    start, files = root if root.is_dir() else root.parent, AudioFiles()
    paths = [str(_locate(start / path, dataset.root, files)) for path in table["path"]]
    if odd := [path for path in paths if path != readable(path)]:
        raise DatasetError(f"dataset {dataset.name}: the path {readable(odd[0])} is not UTF-8, rename its folder")
    return Labels(table.assign(path=paths), labels.ranges, labels.left_out)


def _locate(path: Path, root: Path | None, files: AudioFiles) -> Path:
    """Return ``path``; if it has no audio, the longest end of it that has audio below ``root``."""
    if root is None or files.has(path):
        return path
    ends = (root.joinpath(*path.parts[i:]) for i in range(1, len(path.parts)))
    return next((end for end in ends if files.has(end)), path)


def _labels(root: Path, ranges: Mapping[str, Scale], keep_outside: bool) -> Labels:
    table = pd.concat([_read(file) for file in _files(root)]).fillna("")
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
    if not root.is_dir():
        return [root]
    single = root / "labels.csv"
    found = [single] if os.path.exists(single) else [f for f in sorted(root.glob("*.csv")) if f.stem.lower() in SPLITS]
    if not found:
        raise DatasetError(f"no label file in {root}; expected {LAYOUT}")
    return found


def _read(file: Path) -> pd.DataFrame:
    """Return a label file with our column names, and with the names of utterances without the suffix of audio."""
    table = read_csv(file)
    if "split_set" not in table and file.stem.lower() in SPLITS:
        table["split_set"] = file.stem
    for column, renamed in RENAMED.items():
        if column in table and renamed in table:
            raise DatasetError(f"{file} has both {column} and {renamed}, which mean the same; remove one")
    check_columns(table, ["name", "audio_path"], file)
    table = table.rename(columns=RENAMED)
    table["name"] = table["name"].map(lambda name: split_suffix(name)[0])
    return table


def _check_range(
    table: pd.DataFrame, target: str, scale: Scale, left_out: dict[str, str], keep_outside: bool
) -> pd.DataFrame:
    """Return the table with ``target`` as numbers; rows without a number (on its scale) are left out."""
    values = pd.to_numeric(table[target], errors="coerce").astype(float)
    good = values.notna() if keep_outside else values.between(*scale)
    expected = "expected a number"
    if not keep_outside:
        expected = f"expected {scale[0]:g} to {scale[1]:g} (another range: dataset.ranges.{target}=[LOW,HIGH])"
    reason = table.index + f" has {target}=" + table[target] + f", {expected}"
    absent = (table[target].str.strip() == "") & (
        target == "D" or "emotion" in table
    )  # V and A may be missing only if there is an emotion
    return leave_out(table.assign(**{target: values}), ~(good | absent), reason, left_out)
