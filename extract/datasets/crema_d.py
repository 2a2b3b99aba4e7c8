"""CREMA-D: 7442 clips, 91 actors, 6 emotions, each clip rated by some ten people per mode, in English.

ser-extract --dataset crema-d --root data/CREMA-D --encoder hubert-large
"""

from __future__ import annotations

import os
import re
from typing import Any, ClassVar

import pandas as pd
from typing_extensions import override

from extract.datasets import Dataset
from extract.labels import Labels, as_ratings, check_columns, name_genders
from featurestore.shared.label_files import read_csv

NAME = re.compile(
    r"(?P<speaker>1\d{3})_(?P<sentence>[A-Z]{3})_(?P<emotion>ANG|DIS|FEA|HAP|NEU|SAD)_(?P<level>LO|MD|HI|XX?)"
)
SENTENCES = {
    "IEO": "It's eleven o'clock",
    "TIE": "That is exactly what happened",
    "IOM": "I'm on my way to the meeting",
    "IWW": "I wonder what this is about",
    "TAI": "The airplane is almost full",
    "MTI": "Maybe tomorrow it will be cold",
    "IWL": "I would like a new alarm clock",
    "ITH": "I think I have a doctor's appointment",
    "DFA": "Don't forget a jacket",
    "ITS": "I think I've seen this before",
    "TSI": "The surface is slick",
    "WSI": "We'll stop in a couple of minutes",
}
PERCEIVED = {"A": "anger", "D": "disgust", "F": "fear", "H": "happiness", "N": "neutral", "S": "sadness"}
MODES = {"1": "voice", "2": "face", "3": "audiovisual"}
VOTES, ANSWERS, ACTORS = "processedResults/summaryTable.csv", "finishedResponses.csv", "VideoDemographics.csv"


class CremaD(Dataset):
    """``emotion`` is the acted one; ``emotion_voice`` the one that most listeners voted for, empty for a tie.

    The votes, every rater's answers and the actors' demographics are added if their files exist.
    """

    layout: ClassVar[str] = (
        f"a folder with AudioWAV/*.wav (or in another format), and optionally {VOTES}, {ANSWERS}, {ACTORS}"
    )
    CLIPS: ClassVar[int | None] = 7442
    EMOTIONS: ClassVar[dict[str, str]] = {
        "ANG": "anger",
        "DIS": "disgust",
        "FEA": "fear",
        "HAP": "happiness",
        "NEU": "neutral",
        "SAD": "sadness",
    }

    @override
    def labels(self) -> Labels:
        labels = self.labels_of_names([self.folder() / "AudioWAV"], NAME, "1001_DFA_ANG_XX")
        table = labels.table
        table["level"] = table["level"].replace("X", "XX")  # the name of one file lacks an X
        table["transcript"] = table["sentence"].map(lambda sentence: SENTENCES.get(sentence, ""))
        labels.table = self._actors(self._answers(self._votes(table)))
        return labels

    def _table(self, file: str, columns: list[str]) -> pd.DataFrame | None:
        path = self.folder() / file
        if not os.path.exists(path):
            return None
        table = read_csv(path)
        check_columns(table, columns, path)
        return table

    def _votes(self, table: pd.DataFrame) -> pd.DataFrame:
        modes = ("Voice", "Face", "MultiModal")
        columns = [f"{mode}{what}" for mode in modes for what in ("Vote", "Level")]
        votes = self._table(VOTES, ["FileName", *columns])
        if votes is None:
            return table
        votes = votes.drop_duplicates("FileName").set_index("FileName")[columns]
        votes = votes.reindex(table.index.str.replace("_X$", "_XX", regex=True)).fillna("").set_axis(table.index)
        voted = votes["VoiceVote"].map(lambda vote: PERCEIVED.get(vote, ""))
        return table.join(votes).assign(emotion_voice=voted)

    def _answers(self, table: pd.DataFrame) -> pd.DataFrame:
        columns = ["localid", "queryType", "clipName", "respEmo", "respLevel"]
        answers = self._table(ANSWERS, columns)
        if answers is None:
            return table
        found: dict[str, list[dict[str, Any]]] = {}
        for person, mode, clip, emotion, level in answers[columns].itertuples(index=False):
            rating = {"rater": person, "mode": MODES.get(mode, mode), "emotion": PERCEIVED.get(emotion, emotion)}
            found.setdefault(clip, []).append({**rating, "level": level})
        return table.assign(ratings=[as_ratings(found.get(name, found.get(f"{name}X", []))) for name in table.index])

    def _actors(self, table: pd.DataFrame) -> pd.DataFrame:
        actors = self._table(ACTORS, ["ActorID", "Age", "Sex", "Race", "Ethnicity"])
        if actors is None:
            return table
        actors = actors.drop_duplicates("ActorID").set_index("ActorID").reindex(table["speaker"]).fillna("")
        return table.assign(
            gender=name_genders(actors["Sex"]).to_numpy(),
            age=pd.to_numeric(actors["Age"], errors="coerce").to_numpy(float),
            race=actors["Race"].to_numpy(),
            ethnicity=actors["Ethnicity"].to_numpy(),
        )
