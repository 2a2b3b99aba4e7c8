"""RAVDESS (speech): 1440 clips, 24 actors, 8 emotions in two intensities, in English.

ser-extract --dataset ravdess --root data/ravdess --encoder hubert-large
"""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import ClassVar

import pandas as pd

from extract.datasets import Dataset
from extract.labels import Labels, name_emotions
from featurestore.errors import DatasetError

NAME = re.compile(
    r"(?P<modality>0[1-3])-(?P<channel>0[12])-(?P<emotion>0[1-8])-(?P<intensity>0[12])-(?P<statement>0[12])"
    r"-(?P<repetition>0[12])-(?P<speaker>\d\d)"
)
STATEMENTS = {"01": "Kids are talking by the door", "02": "Dogs are sitting by the door"}
SPEECH = "01"


class RAVDESS(Dataset):
    """Everything is in the file names, e.g. ``03-01-06-01-02-01-12``; songs are passed over."""

    layout: ClassVar[str] = "a folder with Actor_01/*.wav to Actor_24/*.wav, at any depth"
    CLIPS: ClassVar[int | None] = 1440
    EMOTIONS: ClassVar[dict[str, str]] = {
        "01": "neutral",
        "02": "calm",
        "03": "happiness",
        "04": "sadness",
        "05": "anger",
        "06": "fear",
        "07": "disgust",
        "08": "surprise",
    }

    def labels(self) -> Labels:  # noqa: D102
        root = self.folder()
        files = sorted(root.glob("**/Actor_*/[!.]*.wav"), key=lambda file: (len(file.parts), file))
        found: dict[str, Path] = {}
        for file in files:
            found.setdefault(file.stem, file)  # some downloads have all of it twice, once in a folder of its own
        if len(found) < len(files):
            message = "ravdess: %d files have the name of another one nearer to %s, which is used"
            logging.getLogger(__name__).warning(message, len(files) - len(found), root)
        rows, left_out = {}, {}
        for name, file in sorted(found.items()):
            match = NAME.fullmatch(name)
            if not match:
                left_out[name] = f"the file name {file.name!r} is not of the form 03-01-06-01-02-01-12.wav"
            elif match["channel"] == SPEECH:
                rows[name] = {"path": str(file.relative_to(root)), **match.groupdict()}
        if not rows:
            raise DatasetError(f"dataset ravdess: no speech in {root}; expected {self.layout}")
        table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("name")
        table = name_emotions(table.drop(columns="channel"), self.EMOTIONS)
        gender = table["speaker"].map(lambda speaker: "male" if int(speaker) % 2 else "female")
        return Labels(table.assign(gender=gender, transcript=table["statement"].map(STATEMENTS)), left_out=left_out)
