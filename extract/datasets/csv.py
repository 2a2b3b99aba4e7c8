"""Any dataset that comes as a label file: name, audio_path, V, A, split_set, and whatever else it says.

ser-extract --dataset csv --root labels.csv --encoder hubert-large dataset.ranges.V=[-2,2]
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pandas as pd
from pydantic import Field

from extract.datasets import Dataset, Labels, check_columns, read_csv
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
Reasons = dict[str, str]


class CSV(Dataset):
    """A label file with the columns name, audio_path, V, A, split_set, and what else it says, e.g. D and speaker.

    V and A may be absent where there is an emotion. A folder is taken for its labels.csv, or for its train.csv,
    val.csv (or dev.csv) and test.csv, which then say the split.
    """

    ranges: dict[str, tuple[float, float]] = Field(default_factory=lambda: dict.fromkeys("VAD", (1.0, 5.0)))
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
        table = pd.concat([_read(file) for file in self._files()], ignore_index=True)
        left_out: Reasons = {}
        table = _leave_out(table, table["name"] == "", "it has no name", left_out)
        lines = table.groupby("name")["where"].transform(", ".join)
        twice = table["name"].duplicated(keep=False)
        table = _leave_out(table, twice, "the name is not unique, it stands in " + lines, left_out)
        split = table["split_set"].str.lower().map(SPLITS)
        reason = table["where"] + " has split_set=" + table["split_set"] + ", expected train, dev (val) or test"
        table = _leave_out(table, split.isna(), reason, left_out)
        ranges = {target: scale for target, scale in self.ranges.items() if target in table}
        for target, (low, high) in ranges.items():
            values = pd.to_numeric(table[target], errors="coerce").astype(float)
            expected = f", expected {low:g} to {high:g} (another range: dataset.ranges.{target}=[LOW,HIGH])"
            reason = table["where"] + f" has {target}=" + table[target] + expected
            table = _leave_out(table, ~values.between(low, high), reason, left_out)
            table = table.assign(**{target: values})
        table = table.assign(split_set=split).rename(columns=RENAMED).drop(columns="where")
        return Labels(table.set_index("name"), ranges, left_out)

    def _files(self) -> list[Path]:
        root = self.folder()
        if root.is_file():
            return [root]
        single = root / "labels.csv"
        found = [single] if single.exists() else [f for f in sorted(root.glob("*.csv")) if f.stem.lower() in SPLITS]
        if not found:
            raise DatasetError(f"dataset csv: no label file in {root}; expected {self.layout}")
        return found


def _read(file: Path) -> pd.DataFrame:
    """Return a label file with the line of each row in ``where``."""
    table = read_csv(file)
    if "split_set" not in table and file.stem.lower() in SPLITS:
        table["split_set"] = file.stem
    check_columns(table, REQUIRED if "emotion" in table else [*REQUIRED, "V", "A"], file)
    table["name"] = table["name"].str.replace(AUDIO_SUFFIXES, "", regex=True)
    table["where"] = [f"{file.name} line {row + 2}" for row in range(len(table))]
    return table


def _leave_out(table: pd.DataFrame, bad: pd.Series, reason: str | pd.Series, left_out: Reasons) -> pd.DataFrame:
    """Return the rows that are not ``bad``, and note why the others are left out, by name or by line."""
    names, lines, reasons = table["name"][bad], table["where"][bad], pd.Series(reason, table.index)[bad]
    left_out |= {name or line: why for name, line, why in zip(names, lines, reasons, strict=True)}
    return table[~bad]
