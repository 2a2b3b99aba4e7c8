"""EmoDB (Berlin database of emotional speech): 535 clips, 10 speakers, 7 emotions, in German.

ser-extract --dataset emodb --root data/emodb --encoder hubert-large
"""

from __future__ import annotations

import re
from typing import ClassVar

import pandas as pd

from extract.datasets import Dataset
from extract.labels import Labels, name_emotions
from featurestore.errors import DatasetError

NAME = re.compile(r"(?P<speaker>03|08|09|1[0-6])(?P<text>[ab]\d\d)(?P<emotion>[WLEAFTN])(?P<version>[a-z])")
MEN = {"03", "10", "11", "12", "15"}


class EmoDB(Dataset):
    """Everything is in the file names, e.g. ``03a01Fa``: speaker 03, text a01, happiness, version a."""

    layout: ClassVar[str] = "a folder with wav/*.wav"
    CLIPS: ClassVar[int | None] = 535
    EMOTIONS: ClassVar[dict[str, str]] = {
        "W": "anger",
        "L": "boredom",
        "E": "disgust",
        "A": "fear",
        "F": "happiness",
        "T": "sadness",
        "N": "neutral",
    }

    def labels(self) -> Labels:  # noqa: D102
        files = sorted((self.folder() / "wav").glob("[!.]*.wav"))
        if not files:
            raise DatasetError(f"dataset emodb: no wav/*.wav in {self.folder()}; expected {self.layout}")
        rows, left_out = {}, {}
        for file in files:
            match = NAME.fullmatch(file.stem)
            if match:
                rows[file.stem] = {"path": f"wav/{file.name}", **match.groupdict()}
            else:
                left_out[file.stem] = f"the file name {file.name!r} is not of the form 03a01Fa.wav"
        if not rows:
            raise DatasetError(f"dataset emodb: no file name in {self.folder() / 'wav'} is of the form 03a01Fa.wav")
        table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("name")
        table = name_emotions(table, self.EMOTIONS)
        table["gender"] = table["speaker"].map(lambda speaker: "male" if speaker in MEN else "female")
        return Labels(table, left_out=left_out)
