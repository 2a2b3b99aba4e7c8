"""Any dataset that comes as a label file: name, audio_path, V, A, split_set, and whatever else it says.

ser-extract --dataset csv --root labels.csv --encoder hubert-large dataset.ranges.V=[-2,2]
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Self

import pandas as pd
from pydantic import model_validator

from extract.datasets import Dataset, Labels, check_columns, leave_out, leave_out_nameless, read_csv
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
}
REQUIRED = ["name", "audio_path", "split_set"]
RENAMED = {"audio_path": "path", "split_set": "split"}
AUDIO_SUFFIXES = r"(?i)\.(?:wav|flac|mp3|ogg)$"
Scale = tuple[float, float]


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
    layout: ClassVar[str] = "a label file, or a folder with labels.csv, or with train.csv, val.csv and test.csv"

    def audio_folder(self) -> Path:  # noqa: D102
        return self.audio_root or super().audio_folder()

    def labels(self) -> Labels:
        """Return the labels; a row that cannot be used is left out, with the reason.

        Raises:
            DatasetError: if a label file is absent or not a table, or lacks a column.
        """
        table = pd.concat([_read(file) for file in self._files()]).fillna("")
        left_out: dict[str, str] = {}
        table = leave_out_nameless(table, left_out)
        split = table["split_set"].str.strip().str.lower().map(SPLITS)
        reason = table.index + " has split_set=" + table["split_set"] + ", expected train, dev (val) or test"
        table = leave_out(table.assign(split_set=split), split.isna(), reason, left_out)
        ranges = {target: scale for target, scale in self.ranges if target in table}
        for target, scale in ranges.items():
            table = _check_range(table, target, scale, left_out)
        return Labels(table.rename(columns=RENAMED).set_index("name"), ranges, left_out)

    def _files(self) -> list[Path]:
        root = self.folder()
        if root.is_file():
            return [root]
        single = root / "labels.csv"
        found = [single] if single.exists() else [f for f in sorted(root.glob("*.csv")) if f.stem.lower() in SPLITS]
        if not found:
            raise DatasetError(f"dataset {self.name}: no label file in {root}; expected {self.layout}")
        return found


def _read(file: Path) -> pd.DataFrame:
    """Return a label file with names as they are in other files, which may lack the suffix of the audio."""
    table = read_csv(file)
    if "split_set" not in table and file.stem.lower() in SPLITS:
        table["split_set"] = file.stem
    check_columns(table, REQUIRED if "emotion" in table else [*REQUIRED, "V", "A"], file)
    for column, renamed in RENAMED.items():
        if renamed in table:
            raise DatasetError(f"{file} has both {column} and {renamed}, which stand for the same; remove one")
    table["name"] = table["name"].str.strip().str.replace(AUDIO_SUFFIXES, "", regex=True)
    return table


def _check_range(table: pd.DataFrame, target: str, scale: Scale, left_out: dict[str, str]) -> pd.DataFrame:
    """Return the table with ``target`` as numbers, without the rows where it is not one within its scale."""
    values = pd.to_numeric(table[target], errors="coerce").astype(float)
    expected = f"expected {scale[0]:g} to {scale[1]:g} (another range: dataset.ranges.{target}=[LOW,HIGH])"
    reason = table.index + f" has {target}=" + table[target] + f", {expected}"
    absent = (table[target].str.strip() == "") & (target == "D" or "emotion" in table)  # others must have it
    return leave_out(table.assign(**{target: values}), ~(values.between(*scale) | absent), reason, left_out)
