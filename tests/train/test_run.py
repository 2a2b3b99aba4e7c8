"""ser-train as a user runs it."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import featurestore
from featurestore.access.statistics import corpus_statistics
from featurestore.shared.config import load
from featurestore.shared.errors import SerError
from train.config import TrainConfig
from train.examples.examples import load_examples
from train.models.ridge import PENALTIES, Means, fit_ridges, ridge_predictions
from train.numerics.metrics import ccc
from train.reading.norm import write_norm
from train.reading.sources import Source
from train.running.run import protocol_of, resume, run
from train.running.work import load_run
from train.shared.tensors import read_tensors

FILES = {
    "checkpoints",
    "config.yaml",
    "metrics.json",
    "metrics.jsonl",
    "models",
    "outputs",
    "plots",
    "predictions.csv",
    "protocol.json",
    "report.xlsx",
    "run.json",
    "train_log.txt",
}


@pytest.fixture(scope="module")
def finished(commands, store_path, tmp_path_factory):
    """A run with attention fusion on three folds."""
    runs = tmp_path_factory.mktemp("runs")
    settings = [
        "splits.k=3",
        "width=16",
        "optim.epochs=25",
        "optim.lr=5e-3",
        "streams.speech.dropout=0.1",
        "workers=1",
        "seed=1",
    ]
    result = commands.run("--store", store_path, *settings, f"runs={runs}")
    assert result.returncode == 0, result.stderr
    return runs / "toy/states/attention/exp_1", result.stdout


def test_a_run_leaves_everything_behind(finished):
    folder, _ = finished
    assert {file.name for file in folder.iterdir()} == FILES
    assert all(file.stat().st_size > 0 for file in folder.iterdir())
    models = {f"fold_{fold}_member_0.safetensors" for fold in range(3)}
    assert {file.name for file in (folder / "models").iterdir()} == models
    assert {file.name for file in (folder / "outputs").iterdir()} == models | {
        f"ridge_fold_{fold}.safetensors" for fold in range(3)
    }
    assert not list((folder / "checkpoints").iterdir())


def test_figures_can_be_computed_again_from_the_predictions(finished, store):
    folder, output = finished
    metrics = json.loads((folder / "metrics.json").read_text())
    table = pd.read_csv(folder / "predictions.csv", index_col="name")
    assert sorted(table.index) == sorted(store.names())
    for target in "VAD":
        assert np.allclose(table[target], store.utterances[target].loc[table.index], atol=1e-5)
        for system in ("model", "ridge"):
            figure = metrics["results"][system][target]
            assert figure["value"] == pytest.approx(ccc(table[target], table[f"{target}_{system}"]), abs=1e-5)
            assert figure["low"] < figure["value"] < figure["high"]
        by_fold = [ccc(part[target], part[f"{target}_model"]) for _, part in table.groupby("fold")]
        assert metrics["results"]["model"][target]["folds"] == pytest.approx(by_fold, abs=1e-5)
    assert metrics["warnings"] == []
    assert metrics["metrics"] == dict.fromkeys("VAD", "CCC")
    assert f"run: {folder}" in output


def test_the_model_learns_from_states_and_pitch_and_the_ridge_only_from_states(finished):
    """V is in the pitch alone, A in layer 1."""
    folder, _ = finished
    results = json.loads((folder / "metrics.json").read_text())["results"]
    assert results["model"]["V"]["value"] > 0.8
    assert results["model"]["A"]["value"] > 0.9
    assert results["ridge"]["A"]["value"] > 0.9
    assert results["ridge"]["V"]["value"] < 0.3
    assert results["model - ridge"]["V"]["low"] > 0


def test_the_models_are_saved_with_what_made_them(finished, store):
    folder, _ = finished
    tensors, note = read_tensors(folder / "models/fold_0_member_0.safetensors")
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["models"][0] == {"fold": 0, "member": 0, **{key: note[key] for key in note if key != "history"}}
    (logits,) = (tensor for name, tensor in tensors.items() if name.endswith("layers.logits"))
    assert logits.softmax(0).tolist() == pytest.approx(note["layer_weights"]["speech"], abs=1e-6)
    command = (folder / "config.yaml").read_text().splitlines()[0]
    assert command == f"# ser-train --store {store.path} --config {folder / 'config.yaml'}"
    resolved = load(TrainConfig, [folder / "config.yaml"])
    assert (resolved.width, resolved.streams["speech"].feature) == (16, "states")


def quick(*overrides):
    return load(TrainConfig, [], ["optim.epochs=2", "width=8", "workers=1", "baseline=false", *overrides])


def models_of(folder):
    """Return the bytes of the models of a run."""
    return [file.read_bytes() for file in sorted((folder / "models").iterdir())]


def test_the_same_seed_gives_the_same_figures(store, tmp_path):
    settings = ["splits.k=3", f"runs={tmp_path}"]
    (first, a), (second, b) = (run(store, quick(*settings), lambda _: None) for _ in range(2))
    assert a == b
    assert models_of(first) == models_of(second)
    assert (first.name, second.name) == ("exp_1", "exp_2")
    _, other = run(store, quick(*settings, "seed=1"), lambda _: None)
    assert other != a


def test_a_folder_that_is_made_anew_is_read_anew(store, tmp_path):
    """As in a notebook, or a worker of a cluster, which lives through both runs."""
    for width in (8, 16):
        settings = ["splits=given", "optim.epochs=1", "fusion=none", f"width={width}", f"runs={tmp_path}"]
        folder, _ = run(store, quick(*settings), lambda _: None)
        assert (folder.name, load_run(str(folder))[0].config.width) == ("exp_1", width)
        assert load_run(str(folder)) is load_run(str(folder))
        tensors, _ = read_tensors(folder / "models/fold_0_member_0.safetensors")
        assert any(tensor.shape == (width, 16) for tensor in tensors.values())
        shutil.rmtree(folder)


def test_a_run_is_gone_on_with_from_any_folder(copied, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = featurestore.open(copied).names()
    write_norm(Path("norm"), Source(featurestore.open(copied).feature("states"), 1, {}).moments(names), pd.DataFrame())
    Path("mine.yaml").write_text("version: 1\ndatasets: {toy: {anger: anger, joy: joy, calm: calm}}\n")
    heard = "streams.speech={feature: states, layers: 1, front: {name: standardize, norm: norm}}"
    settings = ["splits=given", "optim.epochs=1", "fusion=none", "targets=[emotion]", "categories=mine.yaml", heard]
    folder, found = run(featurestore.open(copied.name), quick(*settings), lambda _: None)
    folder = folder.absolute()
    (folder / "outputs/fold_0_member_0.safetensors").unlink()
    monkeypatch.chdir("/")
    assert resume(folder, lambda _: None)[1] == found
    assert f"--store {copied} " in (folder / "config.yaml").read_text()


def test_refit_trains_on_dev_too_after_the_same_selection(store, tmp_path):
    settings = ["splits=given", "optim.epochs=4", f"runs={tmp_path}"]
    _, selected = run(store, quick(*settings), lambda _: None)
    folder, refitted = run(store, quick(*settings, "optim.refit=true"), lambda _: None)
    for key in ("best_epoch", "best_score"):
        assert refitted["models"][0][key] == selected["models"][0][key]
    assert refitted["results"] != selected["results"]
    tensors, _ = read_tensors(folder / "models/fold_0_member_0.safetensors")
    (mean,) = (tensor for name, tensor in tensors.items() if name.endswith("layers.mean"))
    both = store.utterances.index[store.utterances["split"] != "test"].tolist()
    assert np.array_equal(mean, corpus_statistics(store.feature("states"), both)[0])


@pytest.mark.parametrize("refit", [False, True])
def test_test_parts_do_not_reach_training_or_selection(store, changed, tmp_path, refit):
    """Other labels in the test part change the figures, but neither the models nor their choice."""
    config = quick("splits=given", "optim.epochs=3", f"runs={tmp_path}", f"optim.refit={refit}", "baseline=true")
    first, honest = run(store, config, lambda _: None)
    test = store.utterances["split"] == "test"
    store.utterances.loc[test, ["V", "A", "D"]] = 6 - store.utterances.loc[test, ["V", "A", "D"]]
    second, other = run(changed(store.utterances), config, lambda _: None)
    assert other["models"] == honest["models"]
    assert models_of(first) == models_of(second)
    assert other["results"]["ridge"]["A"]["value"] < 0 < honest["results"]["ridge"]["A"]["value"]


def test_shared_speakers_are_refused_unless_they_are_meant(store, changed, tmp_path):
    store.utterances["split"] = ["train", "dev", "test"] * 32  # each speaker in one part still
    store.utterances.loc["u000", "split"] = "test"
    lines = []
    settings = ["splits=given", "optim.epochs=1", f"runs={tmp_path}"]
    found = "shared_speakers: fold 0: 1 speakers are in train and in test (s0)"
    with pytest.raises(SerError) as error:
        run(changed(store.utterances), quick(*settings), lines.append)
    assert str(error.value).startswith(found)
    assert str(error.value).endswith("or allow it with unsafe.shared_speakers=true")
    assert not lines
    _, results = run(changed(store.utterances), quick(*settings, "unsafe.shared_speakers=true"), lines.append)
    few = "the test utterances are of 3 speakers: intervals, which resample them, are too narrow"
    assert results["warnings"] == [few]
    assert f"audit: {found}" in lines
    assert lines.count("UNSAFE: shared_speakers: not comparable") == 2


def test_categories(store, tmp_path):
    settings = ["targets=[emotion]", "loss=cross_entropy", "splits=leave_one_out", "width=16", "optim.epochs=15"]
    folder, results = run(
        store, quick(*settings, "optim.lr=5e-3", "streams.speech.dropout=0.1", f"runs={tmp_path}"), lambda _: None
    )
    assert results["metrics"] == {"emotion": "UAR"}
    assert results["results"]["model"]["emotion"]["value"] > 0.6
    assert len(results["results"]["model"]["emotion"]["folds"]) == 6
    table = pd.read_csv(folder / "predictions.csv")
    assert set(table["emotion_model"]) <= {"anger", "calm", "joy"}
    assert (folder / "plots/confusion_emotion.png").exists()


def test_examples_of_a_fold_are_joined_by_name(store):
    examples = load_examples(store, load(TrainConfig, [], []))
    shuffled = list(reversed(examples.names))
    assert [examples.names[row] for row in examples.rows(shuffled).tolist()] == shuffled


def test_ridges_equal_those_of_scikit_learn():
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rng = np.random.default_rng(0)
    inputs, targets, unseen = rng.normal(2, 3, (40, 60)), rng.normal(size=(40, 2)), rng.normal(2, 3, (7, 60))
    found = fit_ridges(inputs, targets, unseen)
    for penalty, ours in zip(PENALTIES, found, strict=True):
        theirs = make_pipeline(StandardScaler(), Ridge(penalty)).fit(inputs, targets).predict(unseen)
        assert np.allclose(ours, theirs, atol=1e-6)


def test_a_ridge_is_the_same_however_few_layers_are_held_at_once(store, monkeypatch):
    config = quick("splits=given", "targets=[V,emotion]")
    examples = load_examples(store, config)
    (fold,) = protocol_of(config, examples).folds
    means, _ = store.feature("states").pooled(examples.names)
    found = []
    for held in (3, 2, 1):
        most = held * means[:, 0].nbytes
        some = Means(examples, most)
        assert all(np.array_equal(some.of(layer), means[:, layer]) for layer in (0, 2, 1, 1, 0))
        assert len(some.of(0).base) == held
        monkeypatch.setattr("train.models.ridge.MOST_BYTES", most)
        found.append(ridge_predictions(examples, fold))
    for task, predicted in found[0].items():
        assert all(torch.equal(other[task], predicted) for other in found[1:])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--store", "nowhere.zarr"], "ser-train: no store at nowhere.zarr; ser-extract makes one"),
        (["--store", "{store}", "fusion=conkat"], "no fusion 'conkat'; did you mean 'concat'?"),
        (["--store", "{store}", "dropout=.3"], "unknown key 'dropout'; did you mean 'streams.NAME.dropout'?"),
        (["--store", "{store}", "optim.lrr=1"], "unknown key 'optim.lrr'; did you mean 'optim.lr'?"),
        (["--store", "{store}", "width=100"], "fusion.heads (8) must divide the width of the streams (100)"),
        (["--store", "{store}", "device=gpu"], "device=gpu cannot be used: "),
        (
            ["--store", "{store}", "streams.pitch.embedding={{name: cnn, kernel: 4}}"],
            "kernel is 4, expected an odd number",
        ),
        (["--store", "{store}", "optim.lr=1e30", "runs={store}/../runs", "workers=1"], "try a smaller optim.lr"),
        (["--store", "{store}", "splits.k=7"], "7 folds need at least as many speakers, the store has 6"),
        (["--store", "{store}", "folds=[0,5]"], "folds=[5] are not there: found 5 folds, numbered from 0"),
        (["--store", "{store}", "folds=[]"], "folds=[]: expected one or more numbers, each once"),
        (["--store", "{store}", "folds=[1,1]"], "folds=[1, 1]: expected one or more numbers, each once"),
        (["resume", "{store}"], "{store} is no run of ser-train: it has no "),
        (["resume", "nowhere"], "nowhere is no run of ser-train: it has no "),
        (["predict", "--run", "nowhere", "--store", "{store}"], "nowhere is no run of ser-train: it has no "),
    ],
)
def test_errors_are_one_line(commands, store_path, arguments, message):
    result = commands.run(*(argument.format(store=store_path) for argument in arguments))
    assert result.returncode == 1
    assert message.format(store=store_path) in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_help_needs_no_torch():
    start = time.monotonic()
    command = [sys.executable, "-c", "from train.cli import main; main()", "--help"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0
    assert "--store" in result.stdout
    assert time.monotonic() - start < 5  # under 1 s on a free machine
    code = "import sys, train.cli; assert 'torch' not in sys.modules and 'pandas' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_can_be_set_is_listed(commands):
    """Without a store; what the settings are called is of train/config.py."""
    result = commands.run("--list")
    assert result.returncode == 0, result.stderr
    words = [line.split()[0] for line in result.stdout.splitlines() if line]
    assert {"setting", "seed", "optim", "kind", "splits"} <= set(words)
    result = commands.run("--list", "splits.kfold", "optim.lr")
    assert result.stdout.startswith("splits.kfold: a part, chosen by splits=kfold\n    Speaker-independent k folds")
    assert "\nsplits.k: whole number, >= 3; default 5\n    Number of folds, at least three" in result.stdout
    assert "\noptim.lr: number, > 0" in result.stdout
    result = commands.run("--list", "optim.lrr")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == "ser-train: nothing is called 'optim.lrr'; did you mean 'optim.lr'?\n"


def test_a_run_needs_a_store(commands):
    result = commands.run("seed=1")
    assert result.returncode == 1
    assert "--store is missing" in result.stderr


def test_the_trainer_imports_without_the_libraries_of_extraction():
    blocked = "import sys; sys.modules.update(dict.fromkeys(['transformers', 'parselmouth', 'soundfile', 'soxr']))"
    code = f"{blocked}; import train, train.cli, train.running.run, featurestore.cli"
    subprocess.run([sys.executable, "-c", code], check=True)
