"""RAVDESS (speech): 1440 clips, 24 actors, 8 emotions in two intensities, in English.

ser-extract --dataset ravdess --root data/ravdess --encoder hubert-large
"""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import ClassVar

from extract.datasets import Dataset
from extract.labels import Labels

NAME = re.compile(
    r"(?P<modality>0[1-3])-01-(?P<emotion>0[1-8])-(?P<intensity>0[12])-(?P<statement>0[12])"
    r"-(?P<repetition>0[12])-(?P<speaker>\d\d)"
)
STATEMENTS = {"01": "Kids are talking by the door", "02": "Dogs are sitting by the door"}
SONG = re.compile(r"\d\d-02-.*")


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
        files = [file for name, file in sorted(found.items()) if not SONG.fullmatch(name)]
        labels = self.labels_of_names(files, NAME, "03-01-06-01-02-01-12")
        gender = labels.table["speaker"].map(lambda speaker: "male" if int(speaker) % 2 else "female")
        transcript = labels.table["statement"].map(STATEMENTS)
        labels.table = labels.table.assign(gender=gender, transcript=transcript)
        return labels
