"""A store that is larger than a window is passed window by window, by all models of a pack together."""

import numpy as np
import pandas as pd
import pytest

import train.running.work
from featurestore.shared.config import load
from train.config import TrainConfig
from train.examples.examples import load_examples
from train.models.training import Training
from train.running.folder import RunFolder
from train.running.run import prepare, run
from train.running.work import Job, do_pack

SETTINGS = [
    "splits.k=3",
    "width=8",
    "optim.epochs=3",
    "optim.refit=true",
    "baseline=false",
    "plots=false",
    "fusion=concat",
    "workers=1",
]
WINDOW = 0.08
"""Megabytes: the toy store has some 300 kB."""


def config(*overrides):
    return load(TrainConfig, [], [*SETTINGS, f"optim.window={WINDOW}", *overrides])


@pytest.fixture
def examples(store):
    return load_examples(store, config())


def test_the_windows_of_a_pass_have_each_row_once(examples):
    rows = np.arange(len(examples.names))
    windows = examples.windows(rows, 1, WINDOW)
    assert 3 <= len(windows) <= examples.count_windows(WINDOW)
    assert sorted(np.concatenate(windows)) == sorted(rows)
    assert all(len(window) > 1 for window in windows)
    assert [list(window) for window in windows] != [list(window) for window in examples.windows(rows, 2, WINDOW)]


def test_an_utterance_is_in_the_same_window_for_every_model(examples):
    rows = np.arange(len(examples.names))
    window_of = {row: number for number, window in enumerate(examples.windows(rows, 1, WINDOW)) for row in window}
    for part in (rows[::2], rows[:50]):
        for number, window in enumerate(examples.windows(part, 1, WINDOW)):
            assert {window_of[row] for row in window} == {number}


def test_what_is_smaller_than_a_window_is_one(examples):
    rows = np.arange(len(examples.names))[::-1]
    (window,) = examples.windows(rows, 1, 2000)
    assert np.array_equal(window, rows)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_a_few_rows_make_no_window_of_one(examples, count):
    windows = examples.windows(np.arange(count), 1, 0.001)
    assert sorted(np.concatenate(windows)) == list(range(count))
    assert all(len(window) > 1 for window in windows)


def test_an_epoch_trains_on_everything_once(examples, monkeypatch):
    training = Training(examples, config(), examples.names[:60], examples.names[60:], 3, 0)
    batches, batch = [], type(examples).batch
    monkeypatch.setattr(type(examples), "batch", lambda self, rows: batches.append(rows) or batch(self, rows))
    windows = sum(1 for _ in training.by_window())
    assert windows == len(examples.windows(np.arange(60), 1, WINDOW)) + len(
        examples.windows(np.arange(60, 96), 1, WINDOW)
    )
    assert sorted(np.concatenate(batches)) == list(range(96))


def test_the_batch_with_the_most_frames_is_among_those_that_are_measured(examples, monkeypatch):
    training = Training(examples, config("optim.batch_size=4"), examples.names, [], 3, 0)
    batches, batch = [], type(examples).batch
    monkeypatch.setattr(type(examples), "batch", lambda self, rows: batches.append(rows) or batch(self, rows))
    assert training.seconds_a_step(1) > 0
    assert len(batches) == 2
    assert examples.lengths[batches[0]].max() == examples.lengths.max()


def test_models_of_a_pack_predict_a_window_one_after_another(store, tmp_path, monkeypatch):
    read, predicted = [], train.running.work.predict_alone

    def noted(model, examples, names):
        read.append(names)
        return predicted(model, examples, names)

    monkeypatch.setattr(train.running.work, "predict_alone", noted)
    settings = config(f"runs={tmp_path}", "members=2", "folds=[0]", "optim.refit=false", "optim.patience=3")
    (tmp_path / "run").mkdir()
    prepare(store, settings, lambda _: tmp_path / "run")
    assert do_pack([(str(tmp_path / "run"), Job(0, member)) for member in (0, 1)], lambda _: None) == [None, None]
    assert len(read) > 3
    assert read[::2] == read[1::2]  # each window by the one, then by the other
    assert sorted(name for names in read[::2] for name in names) == sorted(RunFolder(tmp_path / "run").fold(0).test)


@pytest.mark.usefixtures("warm_workers")
def test_folds_that_pass_a_store_together_have_the_bits_of_each_alone(store, tmp_path):
    together, _ = run(store, config(f"runs={tmp_path}/together", "members=2"), lambda _: None)
    whole = pd.read_csv(together / "predictions.csv", index_col="name")
    spread, _ = run(store, config(f"runs={tmp_path}/spread", "members=2", "workers=2"), lambda _: None)
    assert (together / "predictions.csv").read_bytes() == (spread / "predictions.csv").read_bytes()
    for fold in range(3):
        alone, _ = run(store, config(f"runs={tmp_path}/{fold}", "members=2", f"folds=[{fold}]"), lambda _: None)
        part = pd.read_csv(alone / "predictions.csv", index_col="name")
        assert part.equals(whole.loc[part.index])
    other, _ = run(store, config(f"runs={tmp_path}/other", "members=2", "optim.window=2000"), lambda _: None)
    assert not pd.read_csv(other / "predictions.csv", index_col="name").equals(whole)
