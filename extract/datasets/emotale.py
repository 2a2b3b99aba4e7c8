"""EmoTale: enacted emotional speech in Danish and English, each clip rated by three people for V, A, D.

ser-extract --dataset emotale --root data/emotale --encoder whisper-base
"""

from __future__ import annotations

from typing import ClassVar

import pandas as pd

from extract.datasets import Dataset, Labels, check_columns, read_csv

EMOTIONS = {"A": "anger", "B": "boredom", "H": "happiness", "N": "neutral", "S": "sadness"}
RATERS = ("a1", "a2", "a3")


class EmoTale(Dataset):
    """V, A, D are the means over the raters, on scales from 1 to 5."""

    layout: ClassVar[str] = "a folder with annotations.csv and wav/*.flac"

    def labels(self) -> Labels:  # noqa: D102
        rated = read_csv(self.folder() / "annotations.csv")
        ratings = [f"{rater}_{target}" for rater in RATERS for target in "VAD"]
        check_columns(rated, ["file", "gt_emotion", *ratings], self.folder() / "annotations.csv")
        stems = rated["file"].str.rsplit(".", n=1).str[0]
        fields = stems.str.split("_", expand=True)  # DK_001_A_1
        table = pd.DataFrame(
            {
                "path": "wav/" + stems + ".flac",
                "speaker": fields[1],
                "language": fields[0],
                "sentence": fields[3],
                "emotion": rated["gt_emotion"].map(EMOTIONS),
            }
        )
        rated[ratings] = rated[ratings].astype(float)
        for target in "VAD":
            table[target] = rated[[f"{rater}_{target}" for rater in RATERS]].mean(axis=1)
        table = pd.concat([table, rated.drop(columns="file")], axis=1)
        return Labels(table.set_index(pd.Index(stems, name="name")), dict.fromkeys("VAD", (1.0, 5.0)))
