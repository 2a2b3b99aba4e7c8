"""EmoTale: enacted emotional speech in Danish and English, each clip rated by three people for V, A, D.

ser-extract --dataset emotale --root data/emotale --encoder whisper-base
"""

from __future__ import annotations

import os
import re
from typing import ClassVar

import pandas as pd
from typing_extensions import override

from extract.audio_files import split_suffix
from extract.datasets import Dataset
from extract.labels import (
    Labels,
    Scale,
    as_ratings,
    check_columns,
    leave_out,
    leave_out_nameless,
    name_genders,
    without,
)
from featurestore.shared.label_files import read_csv

NAME = re.compile(r"^(?P<language>DK|EN)_(?P<speaker>\d{3})_[ABHNS]_(?P<sentence>\d+)$")
RATERS = ("a1", "a2", "a3")
RATINGS = [f"{rater}_{target}" for rater in RATERS for target in "VAD"]
SCALE = (1.0, 5.0)
SENTENCES = {
    "DK_1": "Dugen ligger på køleskabet.",
    "DK_2": "Det sorte ark papir er placeret deroppe ved siden af tømmerstykket.",
    "DK_3": "De bar det bare ovenpå og nu skal de ned igen.",
    "DK_4": "Det vil være på det sted, hvor vi altid opbevarer det.",
    "DK_5": "Om syv timer er det morgen.",
    "EN_1": "The tablecloth is lying on the fridge.",
    "EN_2": "The black sheet of paper is located up there besides the piece of timber.",
    "EN_3": "They just carried it upstairs and now they are going down again.",
    "EN_4": "It will be in the place where we always store it.",
    "EN_5": "In seven hours it will be morning.",
}
"""By language and number, as on the dataset's web page; the words carry no emotion."""
OWN = (
    *("name", "path", "language", "speaker", "sentence", "transcript", "gender", "age"),
    *("V", "A", "D", "emotion", "ratings"),
)
"""Columns that the dataset makes itself."""


class EmoTale(Dataset):
    """V, A, D are the means over the raters, on scales from 1 to 5."""

    layout: ClassVar[str] = "a folder with annotations.csv and wav/*.wav, or in another format"
    CLIPS: ClassVar[int | None] = 800
    RANGES: ClassVar[dict[str, Scale]] = dict.fromkeys("VAD", SCALE)
    EMOTIONS: ClassVar[dict[str, str]] = {
        "A": "anger",
        "B": "boredom",
        "H": "happiness",
        "N": "neutral",
        "S": "sadness",
    }

    @override
    def labels(self) -> Labels:
        file = self.folder() / "annotations.csv"
        table = read_csv(file)
        check_columns(table, ["file", "gt_emotion", *RATINGS], file)
        table = without(table, OWN, file)
        table.insert(0, "name", table["file"].map(lambda file: split_suffix(file)[0]))
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
        return Labels(table.drop(columns="file").set_index("name"), self.RANGES, left_out)

    def _describe(self, table: pd.DataFrame) -> pd.DataFrame:
        """Return the table with derived columns, and with gender and age if there is a table of speakers."""
        means = {target: table[[f"{rater}_{target}" for rater in RATERS]].mean(axis=1) for target in "VAD"}
        emotion = table["gt_emotion"].map(self.EMOTIONS).fillna("")
        said = (table["language"] + "_" + table["sentence"]).map(SENTENCES).fillna("")
        table = table.assign(
            path="wav/" + table["file"],
            emotion=emotion,
            transcript=said,
            ratings=table.apply(_ratings, axis=1),
            **means,
        )
        file = self.folder() / "speaker_info.csv"
        if not os.path.exists(file):
            return table
        speakers = read_csv(file)
        check_columns(speakers, ["speaker", "gender", "age"], file)
        speakers = speakers.drop_duplicates("speaker").set_index("speaker")
        gender = table["speaker"].map(name_genders(speakers["gender"])).fillna("")
        age = table["speaker"].map(pd.to_numeric(speakers["age"], errors="coerce").astype(float))
        return table.assign(gender=gender, age=age)


def _ratings(row: pd.Series) -> str:
    """Return what the raters said: V, A, D, and the emotion where the file has it."""
    said = {"emotion": "cat", **{target: target for target in "VAD"}}
    values = ({key: row.get(f"{rater}_{column}") for key, column in said.items()} for rater in RATERS)
    return as_ratings(
        {"rater": rater, **{key: value for key, value in one.items() if value is not None}}
        for rater, one in zip(RATERS, values, strict=True)
    )
