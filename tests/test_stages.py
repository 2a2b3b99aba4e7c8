"""From a raw dataset to figures: the two commands, one after the other."""

import json

import numpy as np
import pandas as pd
import pytest

from tests.extract.layouts import record, write
from tests.extract.samples import noise, ser_extract
from tests.processes import Command

EMOTIONS = ("neu", "hap", "ang", "sad", "fru", "exc")
ser_train = Command("train")
QUICK = ["width=8", "optim.epochs=2", "workers=1", "unsafe.same_audio=true", "unsafe.near_duplicates=true"]


def iemocap(root):
    """Five sessions of twelve turns each, of two speakers."""
    turns = []
    for session in range(1, 6):
        dialogue = f"Ses0{session}F_impro01"
        lines = ["% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]", ""]
        for number in range(12):
            turn, emotion = f"{dialogue}_{'FM'[number % 2]}{number // 2:03d}", EMOTIONS[number % 6]
            lines.append(f"[{number}.0 - {number}.9]\t{turn}\t{emotion}\t[{1 + number % 5}.0, {1 + number % 4}.0, 2.5]")
            turns.append(f"Session{session}/sentences/wav/{dialogue}/{turn}.wav")
        write(root, {f"Session{session}/dialog/EmoEvaluation/{dialogue}.txt": "\n".join(lines) + "\n"})
    return record(root, turns, [noise(samples) for samples in (8_000, 11_200, 9_600)])


def ravdess(root):
    """Six actors with all eight emotions."""
    clips = [f"03-01-{emotion:02d}-01-01-01-{actor:02d}" for actor in range(1, 7) for emotion in range(1, 9)]
    return record(root, [f"Actor_{clip[-2:]}/{clip}.wav" for clip in clips], [noise(8_000), noise(9_600)])


@pytest.mark.parametrize(
    ("dataset", "make", "target", "splits", "utterances", "classes"),
    [
        ("iemocap", iemocap, "emotion_4", ["splits.group=session", "splits.k=5"], 50, 4),
        ("ravdess", ravdess, "emotion", ["splits.k=3"], 48, 8),
    ],
)
def test_categories_of_a_raw_layout(tmp_path, dataset, make, target, splits, utterances, classes):
    root, store = make(tmp_path / "raw"), tmp_path / "store.zarr"
    encoder = ["--encoder", "hubert-tiny-untrained", "--features", "pitch", "--allow-partial"]
    made = ser_extract("--dataset", dataset, "--root", root, *encoder, "--store", store)
    assert made.returncode in (0, 3), made.stderr
    trained = ser_train("--store", store, f"targets=[{target}]", *splits, *QUICK, f"runs={tmp_path / 'runs'}")
    assert trained.returncode == 0, trained.stderr
    (folder,) = tmp_path.glob("runs/*/*/attention/exp_1")
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["metrics"] == {target: "UAR"}
    table = pd.read_csv(folder / "predictions.csv", index_col="name")
    assert (len(table), table[target].nunique()) == (utterances, classes)
    assert np.isfinite(metrics["results"]["model"][target]["value"])
