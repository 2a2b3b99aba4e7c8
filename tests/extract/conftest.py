"""Waveforms, and datasets in their raw layouts, spoken by Praat; the label files are invented in the format."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

from extract.audio import SAMPLING_RATE
from extract.speech import Manner, speak
from tests.extract.samples import EMODB_CLIPS, EMOTALE_CLIPS


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def spoken() -> list[np.ndarray]:
    """Four utterances of 0.6 to 2 s."""
    texts = ("Yes.", "Come in, please.", "The train leaves in seven minutes.", "I told him.")
    voices = ("Female1", "Male2", "Female3", "Male5")
    return [speak(text, voice, Manner(rise=3.0)) for text, voice in zip(texts, voices, strict=True)]


@pytest.fixture
def emodb(tmp_path: Path, spoken: list[np.ndarray]) -> Path:
    (tmp_path / "wav").mkdir()
    for i, name in enumerate(EMODB_CLIPS):
        soundfile.write(tmp_path / f"wav/{name}.wav", spoken[i % 4], SAMPLING_RATE)
    return tmp_path


@pytest.fixture
def emotale(tmp_path: Path, spoken: list[np.ndarray]) -> Path:
    (tmp_path / "wav").mkdir()
    rows = []
    for i, name in enumerate(EMOTALE_CLIPS):
        soundfile.write(tmp_path / f"wav/{name}.flac", spoken[i], SAMPLING_RATE)
        ratings = {f"a{rater}_{t}": 1 + 0.5 * (rater + i) for rater in (1, 2, 3) for t in "AVD"}
        categories = {f"a{rater}_cat": "N" for rater in (1, 2, 3)}
        rows.append({"file": f"{name}.wav", **ratings, **categories, "gt_emotion": name.split("_")[2]})
    pd.DataFrame(rows).to_csv(tmp_path / "annotations.csv", index=False)
    return tmp_path


@pytest.fixture
def labelled(tmp_path: Path, spoken: list[np.ndarray]) -> Path:
    """A label file with four good rows."""
    rows = []
    for i, wave in enumerate(spoken):
        soundfile.write(tmp_path / f"clip{i}.wav", wave, SAMPLING_RATE)
        split = ("Train", "Validation", "TEST", "development")[i]
        rows.append(f"00{i},clip{i}.wav,{1 + i},{5 - i},{split},s{i},jå nein")
    (tmp_path / "labels.csv").write_text("name,audio_path,V,A,split_set,speaker,transcript\n" + "\n".join(rows) + "\n")
    return tmp_path / "labels.csv"
