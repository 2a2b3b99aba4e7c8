"""EmoTale: enacted emotional speech in Danish and English, each clip rated by three people for V, A, D.

ser-extract --dataset emotale --root data/emotale --encoder whisper-base
"""

from __future__ import annotations

import re
from typing import ClassVar

import pandas as pd

from extract.datasets import Dataset, Labels, check_columns, leave_out, leave_out_nameless, read_csv

NAME = re.compile(r"^(?P<language>DK|EN)_(?P<speaker>\d{3})_[ABHNS]_(?P<sentence>\d+)$")
EMOTIONS = {"A": "anger", "B": "boredom", "H": "happiness", "N": "neutral", "S": "sadness"}
GENDERS = {"F": "female", "M": "male"}
RATERS = ("a1", "a2", "a3")
RATINGS = [f"{rater}_{target}" for rater in RATERS for target in "VAD"]
SCALE = (1.0, 5.0)


class EmoTale(Dataset):
    """V, A, D are the means over the raters, on scales from 1 to 5."""

    layout: ClassVar[str] = "a folder with annotations.csv and wav/*.flac"

    def labels(self) -> Labels:  # noqa: D102
        file = self.folder() / "annotations.csv"
        table = read_csv(file)
        check_columns(table, ["file", "gt_emotion", *RATINGS], file)
        table.insert(0, "name", table["file"].str.replace(r"\.\w+$", "", regex=True))
        left_out: dict[str, str] = {}
        table = leave_out_nameless(table, left_out)
        table = table.join(table["name"].str.extract(NAME))
        reason = "the file name " + table["file"] + " is not of the form DK_001_A_1.wav"
        table = leave_out(table, table["speaker"].isna(), reason, left_out)
        ratings = table[RATINGS].apply(pd.to_numeric, errors="coerce").astype(float)
        unrated = ~((ratings >= SCALE[0]) & (ratings <= SCALE[1])).all(axis=1)
        table = table.drop(columns=RATINGS).join(ratings)
        reason = table.index.to_series() + " has a rating that is not a number from 1 to 5"
        table = leave_out(table, unrated, reason, left_out)
        table = self._describe(table)
        return Labels(table.drop(columns="file").set_index("name"), dict.fromkeys("VAD", SCALE), left_out)

    def _describe(self, table: pd.DataFrame) -> pd.DataFrame:
        """Return the table with what follows from its columns, and from the table of speakers if there is one."""
        means = {target: table[[f"{rater}_{target}" for rater in RATERS]].mean(axis=1) for target in "VAD"}
        emotion = table["gt_emotion"].map(EMOTIONS).fillna("")
        table = table.assign(path="wav/" + table["name"] + ".flac", emotion=emotion, **means)
        file = self.folder() / "speaker_info.csv"
        if not file.exists():
            return table
        speakers = read_csv(file)
        check_columns(speakers, ["speaker", "gender", "age"], file)
        speakers = speakers.drop_duplicates("speaker").set_index("speaker")
        gender = table["speaker"].map(speakers["gender"].replace(GENDERS)).fillna("")
        age = table["speaker"].map(pd.to_numeric(speakers["age"], errors="coerce").astype(float))
        return table.assign(gender=gender, age=age)
