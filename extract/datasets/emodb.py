"""EmoDB (Berlin database of emotional speech): 535 clips, 10 speakers, 7 emotions, in German.

ser-extract --dataset emodb --root data/emodb --encoder hubert-large
"""

from __future__ import annotations

import re
from typing import ClassVar

from typing_extensions import override

from extract.datasets import Dataset
from extract.labels import Labels

NAME = re.compile(r"(?P<speaker>03|08|09|1[0-6])(?P<text>[ab]\d\d)(?P<emotion>[WLEAFTN])(?P<version>[a-z])")
MEN = {"03", "10", "11", "12", "15"}


class EmoDB(Dataset):
    """Everything is in the file names, e.g. ``03a01Fa``: speaker 03, text a01, happiness, version a."""

    layout: ClassVar[str] = "a folder with wav/*.wav, or in another format"
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

    @override
    def labels(self) -> Labels:
        labels = self.labels_of_names([self.folder() / "wav"], NAME, "03a01Fa")
        gender = labels.table["speaker"].map(lambda speaker: "male" if speaker in MEN else "female")
        labels.table = labels.table.assign(gender=gender)
        return labels
