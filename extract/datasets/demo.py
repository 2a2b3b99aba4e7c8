"""The demo: emotional speech that Praat speaks, with the V and A that drive how it is spoken as labels.

ser-extract --dataset demo --encoder hubert-tiny-untrained --features pitch,logmel
"""

from __future__ import annotations

import os
import shutil
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile
from pydantic import Field

from extract.audio import SAMPLING_RATE
from extract.datasets.csv import CSV
from extract.labels import Labels
from extract.speech import VOICES, Manner, speak
from featurestore.shared.errors import DatasetError

SENTENCES = (
    "The letter is lying on the table.",
    "She will be back in an hour.",
    "They have carried it upstairs.",
    "I told him about it on Monday.",
    "The train leaves in seven minutes.",
    "We are going home at the weekend.",
    "He put the keys beside the door.",
    "Tomorrow we will know about it.",
    "My brother works in the garden.",
    "You can find it on the second floor.",
)
SPLIT = {**dict.fromkeys(VOICES, "train"), "Female4": "dev", "Male4": "dev", "Female3": "test", "Male5": "test"}
QUADRANTS = {(True, True): "excited", (False, True): "angry", (False, False): "sad", (True, False): "calm"}


class Demo(CSV):
    """Praat's nine voices say ten sentences; V and A are drawn at random from 1 to 5."""

    root: Path | None = Path("data/demo")
    """Where the audio and its label file are; they are made if they do not exist."""
    clips: int = Field(default=40, ge=1)
    """Clips of each voice."""
    seed: int = 0
    """Seed of everything that is drawn."""

    def labels(self) -> Labels:
        """Return the labels, after making the dataset if it does not exist."""
        root = self.root or Path("data/demo")
        if not os.path.exists(root / "labels.csv"):
            self._make(root)
        return super().labels()

    def _make(self, root: Path) -> None:
        if os.path.exists(root) and not root.is_dir():
            raise DatasetError(f"dataset demo: {root} is a file; give a folder that is new or empty")
        if os.path.exists(root) and any(root.iterdir()):
            raise DatasetError(
                f"dataset demo: {root} holds files but no labels.csv; give a folder that is new or empty"
            )
        temporary = root.with_name(f".{root.name}.tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        (temporary / "wav").mkdir(parents=True)
        with ProcessPoolExecutor(1, get_context("spawn")) as fresh:  # see `speak`: the same clips every time
            rows = list(fresh.map(partial(self._clip, temporary), range(self.clips * len(VOICES))))
        pd.DataFrame(rows).to_csv(temporary / "labels.csv", index=False)
        temporary.rename(root)

    def _clip(self, folder: Path, number: int) -> dict[str, object]:
        """Speak one clip and return its labels."""
        rng = np.random.default_rng([self.seed, number])
        voice, text = VOICES[number % len(VOICES)], SENTENCES[number // len(VOICES) % len(SENTENCES)]
        valence, arousal = rng.uniform(-1, 1, 2)
        name = f"{voice}_{number // len(VOICES):03d}"
        wave = speak(text, voice, express(valence, arousal, rng), seed=number)
        soundfile.write(folder / "wav" / f"{name}.wav", wave, SAMPLING_RATE, subtype="PCM_16")
        return {
            "name": name,
            "audio_path": f"wav/{name}.wav",
            "V": round(3 + 2 * valence, 2),
            "A": round(3 + 2 * arousal, 2),
            "emotion": QUADRANTS[bool(valence > 0), bool(arousal > 0)],
            "speaker": voice,
            "split_set": SPLIT[voice],
            "transcript": text,
        }


def express(valence: float, arousal: float, rng: np.random.Generator) -> Manner:
    """Return how someone speaks with this valence and arousal (each -1 to 1), following known tendencies.

    Arousal raises pitch, pitch range, rate, intensity and the high frequencies; with valence the pitch rises instead
    of falling, and the voice is less breathy. Source: I. R. Murray, J. L. Arnott (1993), Toward the simulation of
    emotion in synthetic speech, table 1. Random variation is added to all of it.
    """
    a, v = np.array([arousal, valence]) + rng.normal(0, 0.15, 2)
    chance = rng.normal(0, 1, 5)
    return Manner(
        pitch=float(np.clip(1.0 + 0.18 * a + 0.06 * chance[0], 0.5, 2.0)),
        pitch_range=float(np.clip(1.0 + 0.3 * a + 0.1 * chance[1], 0.0, 2.0)),
        rise=float(7.0 * v + 1.0 * chance[2]),
        words_per_minute=int(175 + 35 * a + 10 * chance[3]),
        brightness=float(np.clip(0.4 * a, -0.9, 0.9)),
        breath=float(np.clip(0.06 - 0.04 * v, 0.0, None)),
        level=float(min(-24.0 + 4.0 * a + 1.5 * chance[4], 0.0)),
    )
