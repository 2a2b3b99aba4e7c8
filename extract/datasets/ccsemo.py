"""CCSEMO: 7615 clips of spontaneous Chinese speech, 103 speakers, each rated for V, A and one of seven emotions.

ser-extract --dataset ccsemo --root data/ccsemo --encoder hubert-large
"""

from __future__ import annotations

import os
from typing import ClassVar

from typing_extensions import override

from extract.datasets import Dataset
from extract.datasets.csv import read_label_csv
from extract.labels import Labels, Scale
from featurestore.shared.errors import DatasetError

FILES = ("ccsemo_label.csv", "ccsemo_labels.csv", "labels.csv", "label.csv")
SPEAKER = r"^(spk\d+)-"


class CCSEMO(Dataset):
    """V from -2 to 2, A from 1 to 5; the speaker is the first part of the name, e.g. spk11 of ``spk11-1-1-103``."""

    layout: ClassVar[str] = f"a folder with the audio and one of {', '.join(FILES)}"
    CLIPS: ClassVar[int | None] = 7615
    RANGES: ClassVar[dict[str, Scale]] = {"V": (-2.0, 2.0), "A": (1.0, 5.0)}
    EMOTIONS: ClassVar[dict[str, str]] = {  # not all of its label files have the same words
        **{word: word for word in ("anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise")},
        "angry": "anger",
        "happy": "happiness",
        "sad": "sadness",
    }

    @override
    def complete(self, labels: Labels) -> Labels:
        table = labels.table
        if "speaker" not in table:
            speaker = table.index.to_series().str.extract(SPEAKER, expand=False).fillna("")
            labels.table = table.assign(speaker=speaker)
        return labels

    @override
    def labels(self) -> Labels:
        folder = self.folder()
        found = next((folder / name for name in FILES if os.path.exists(folder / name)), None)
        if found is None:
            raise DatasetError(f"dataset ccsemo: no label file in {folder}; expected {self.layout}")
        return read_label_csv(self.model_copy(update={"label_csv": found}))
