"""RAVDESS (speech): 1440 clips, 24 actors, 8 emotions in two intensities, in English.

ser-extract --dataset ravdess --root data/ravdess --encoder hubert-large
"""

from __future__ import annotations

import re
from typing import ClassVar

from typing_extensions import override

from extract.audio_files import walk
from extract.datasets import Dataset
from extract.labels import Labels

NAME = re.compile(
    r"(?P<modality>0[1-3])-01-(?P<emotion>0[1-8])-(?P<intensity>0[12])-(?P<statement>0[12])"
    r"-(?P<repetition>0[12])-(?P<speaker>\d\d)"
)
STATEMENTS = {"01": "Kids are talking by the door", "02": "Dogs are sitting by the door"}
SONG = r"\d\d-02-.*"


class RAVDESS(Dataset):
    """Everything is in the file names, e.g. ``03-01-06-01-02-01-12``; songs are ignored."""

    layout: ClassVar[str] = "a folder with Actor_01/*.wav to Actor_24/*.wav (or in another format), at any depth"
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

    @override
    def labels(self) -> Labels:
        left_out: dict[str, str] = {}
        root = self.folder()
        folders = [folder for folder in walk(root, left_out) if folder != root and folder.name.startswith("Actor_")]
        folders.sort(key=lambda folder: (len(folder.parts), folder))  # some downloads hold every file twice
        labels = self.labels_of_names(folders, NAME, "03-01-06-01-02-01-12", SONG)
        labels.left_out |= left_out
        gender = labels.table["speaker"].map(lambda speaker: "male" if int(speaker) % 2 else "female")
        transcript = labels.table["statement"].map(STATEMENTS)
        labels.table = labels.table.assign(gender=gender, transcript=transcript)
        return labels
