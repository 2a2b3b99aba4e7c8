"""The same models and predictions to the bit, whatever else is trained, by whom, however often it was killed."""

import json
import random
import shutil
import signal
import time
from contextlib import suppress

import numpy as np
import pandas as pd
import pytest

import featurestore
import train
from featurestore.operations.copying import copy_stores
from featurestore.shared.config import load
from featurestore.shared.errors import SerError
from train.commands.predict import write_predictions
from train.config import TrainConfig
from train.running.folder import ModelKey
from train.running.run import resume, run
from train.shared.tensors import read_tensors

QUICK = ["splits.k=3", "width=8", "optim.epochs=3", "workers=1", "streams.speech.dropout=0.3", "plots=false"]


def config(*overrides):
    return load(TrainConfig, [], [*QUICK, *overrides])


def trained(store, runs, *overrides):
    folder, _ = run(store, config(f"runs={runs}", *overrides), lambda _: None)
    return folder


def contents(folder, *parts):
    """Return the bytes of the files of a run by name."""
    return {f"{part}/{file.name}": file.read_bytes() for part in parts for file in sorted((folder / part).iterdir())}


RESULTS = ("models", "outputs")


@pytest.fixture(scope="module")
def whole(store_path, tmp_path_factory):
    """A run of two members on all folds."""
    return trained(featurestore.open(store_path), tmp_path_factory.mktemp("runs"), "members=2", "targets=[V,emotion]")


def test_a_fold_alone_is_as_among_all(store, whole, tmp_path):
    alone = trained(store, tmp_path, "members=2", "targets=[V,emotion]", "folds=[1]")
    found, expected = contents(alone, *RESULTS), contents(whole, *RESULTS)
    assert set(found) == {name for name in expected if "fold_1" in name}
    assert all(found[name] == expected[name] for name in found)
    rows = pd.read_csv(whole / "predictions.csv", dtype=str, index_col="name")
    part = pd.read_csv(alone / "predictions.csv", dtype=str, index_col="name")
    assert part.equals(rows[rows["fold"] == "1"])


def test_a_member_alone_is_as_among_all(store, whole, tmp_path):
    """The seed of a member is that of the run and its number."""
    alone = trained(store, tmp_path, "seed=1", "targets=[V,emotion]", "baseline=false", "folds=[2,0]")
    for fold in (0, 2):
        for part in RESULTS:
            mine = (alone / part / f"{ModelKey(fold, 0).name}.safetensors").read_bytes()
            assert mine == (whole / part / f"{ModelKey(fold, 1).name}.safetensors").read_bytes()


def test_other_runs_before_it_change_nothing(store, whole, tmp_path):
    np.random.seed(7)  # noqa: NPY002, what else draws must not matter
    trained(store, tmp_path, "fusion=concat", "seed=9", "folds=[0]")
    again = trained(store, tmp_path, "members=2", "targets=[V,emotion]")
    assert contents(again, *RESULTS) == contents(whole, *RESULTS)
    assert (again / "predictions.csv").read_bytes() == (whole / "predictions.csv").read_bytes()
    assert (again / "metrics.json").read_bytes() == (whole / "metrics.json").read_bytes()


def test_two_workers_do_what_one_does(commands, store_path, whole, tmp_path):
    words = [*QUICK, "members=2", "targets=[V,emotion]", "folds=[0]", f"runs={tmp_path}"]
    done = commands.run("--store", store_path, *words, "--workers", 2)
    assert done.returncode == 0, done.stderr
    found, expected = contents(tmp_path / "toy/states/attention/exp_1", *RESULTS), contents(whole, *RESULTS)
    assert all(found[name] == expected[name] for name in found)
    assert len(found) == 5


LONG = ["optim.epochs=12", "optim.patience=12", "optim.refit=true"]


@pytest.fixture(scope="module")
def long(store_path, tmp_path_factory):
    """What a longer run that nobody interrupts ends with, and the seconds that it took."""
    start = time.monotonic()
    folder = trained(featurestore.open(store_path), tmp_path_factory.mktemp("runs"), *LONG)
    return folder, time.monotonic() - start


def check_the_same(folder, expected):
    assert (folder / "predictions.csv").read_bytes() == (expected / "predictions.csv").read_bytes()
    assert contents(folder, *RESULTS) == contents(expected, *RESULTS)
    assert (folder / "metrics.json").read_bytes() == (expected / "metrics.json").read_bytes()
    assert not list((folder / "checkpoints").iterdir())
    epochs = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    keys = ("fold", "member", "again", "epoch", "loss")
    others = [json.loads(line) for line in (expected / "metrics.jsonl").read_text().splitlines()]
    assert {tuple(epoch[key] for key in keys) for epoch in epochs} == {tuple(e[key] for key in keys) for e in others}


@pytest.mark.parametrize("seed", range(2))
def test_a_run_that_is_killed_again_and_again_ends_the_same(commands, store_path, long, tmp_path, seed):
    expected, seconds = long
    chance, folder, kills = random.Random(seed), tmp_path / "toy/states/attention/exp_1", 0
    words = ["--store", store_path, *QUICK, *LONG, f"runs={tmp_path}"]
    while not (folder / "metrics.json").exists():
        running = commands.start(*words)
        if kills < 3:
            while words[0] == "--store" and not (folder / "checkpoints").exists():
                time.sleep(0.02)
            time.sleep(chance.uniform(0.3, seconds / 4))
            running.send(signal.SIGKILL)
        done = running.wait()
        assert done.returncode in (0, -signal.SIGKILL), done.stderr
        kills, words = kills + 1, ["resume", folder]
    check_the_same(folder, expected)


def test_ctrl_c_and_resume_end_the_same(commands, store_path, long, tmp_path):
    folder = tmp_path / "toy/states/attention/exp_1"
    running = commands.start("--store", store_path, *QUICK, *LONG, f"runs={tmp_path}")
    while len(list((folder / "models").glob("fold_*"))) < 1:
        time.sleep(0.02)
    running.send(signal.SIGINT)
    assert running.wait().returncode == 130
    done = commands.run("resume", folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"run: {folder}"
    check_the_same(folder, long[0])


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_ctrl_c_while_a_file_is_read_is_no_damage(whole):
    file, chance, stops = whole / "models/fold_0_member_0.safetensors", random.Random(0), []

    def stop(*_):
        stops.append(1)
        raise KeyboardInterrupt

    def read_until_stopped():
        with suppress(KeyboardInterrupt):
            signal.setitimer(signal.ITIMER_REAL, chance.uniform(1e-4, 3e-3))
            end = time.monotonic() + 0.1
            while time.monotonic() < end:
                read_tensors(file)

    before = signal.signal(signal.SIGALRM, stop)
    try:
        for _ in range(300):
            read_until_stopped()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert len(stops) == 300


def test_a_run_that_is_done_is_only_told_again(whole):
    before = {
        file: file.read_bytes() for file in whole.rglob("*") if file.is_file() and file.suffix not in (".txt", ".xlsx")
    }
    assert resume(whole, lambda _: None)[0] == whole
    assert {file: file.read_bytes() for file in before} == before


def test_a_run_whose_store_has_changed_is_not_resumed(store, changed, tmp_path):
    other = changed(store.utterances)
    folder = trained(other, tmp_path, "folds=[0]")
    (folder / "outputs/fold_0_member_0.safetensors").unlink()
    resume(folder, lambda _: None)
    table = store.utterances.assign(V=store.utterances["V"][::-1].to_numpy())
    writer = featurestore.access.writer.StoreWriter(other.path)
    with writer.change_at_once():
        writer.replace_table(table)
    with pytest.raises(SerError, match=r"has changed since .* began: its table is another one"):
        resume(folder, lambda _: None)


@pytest.fixture(scope="module")
def other_forms(store_path, tmp_path_factory):
    """The store as HDF5, and as float32."""
    folder = tmp_path_factory.mktemp("forms")
    for name, dtype in (("toy.h5", None), ("float32.zarr", "float32")):
        copy_stores([featurestore.open(store_path)], folder / name, dtype=dtype)
    return folder


def model_columns(table):
    return [column for column in table if "_model" in column or column.endswith(("_sd", "_agreement"))]


def test_predictions_are_those_of_the_run(whole, store_path, other_forms):
    text = pd.read_csv(whole / "predictions.csv", dtype=str, index_col="name")
    columns = model_columns(text)
    of_classes = [f"emotion_model_{name}" for name in ("anger", "calm", "joy")]
    assert columns == ["V_model", "V_sd", "emotion_model", *of_classes, "emotion_agreement"]
    for path in (store_path, other_forms / "toy.h5"):
        found = train.Run.open(whole).predict(path)
        assert found["part"].tolist() == ["test"] * 96
        assert found.loc[text.index, columns].to_csv() == text[columns].to_csv()
        assert found["fold"].loc[text.index].tolist() == text["fold"].tolist()
    few = train.Run.open(whole).predict(store_path, ["u007", "u001"])
    assert few.index.tolist() == ["u007", "u001"]
    assert few[columns].to_csv() == text[columns].loc[["u007", "u001"]].to_csv()


def test_another_data_type_is_predicted_nearly_the_same(whole, other_forms):
    text = pd.read_csv(whole / "predictions.csv", index_col="name")
    found = train.Run.open(whole).predict(other_forms / "float32.zarr").loc[text.index]
    assert np.allclose(found["V_model"], text["V_model"], atol=1e-4)


def test_ser_train_predict_writes_the_same(whole, commands, store_path, other_forms, tmp_path):
    out = tmp_path / "predicted.csv"
    done = commands.run("predict", "--run", whole, "--store", other_forms / "toy.h5", "--out", out)
    assert (done.returncode, done.stderr) == (0, "")
    assert out.read_text() == train.Run.open(whole).predict(store_path).to_csv()
    done = commands.run("predict", "--run", whole, "--store", store_path)
    assert done.stdout == out.read_text()


def test_the_device_of_the_run_need_not_be_that_of_its_predictions(whole, store_path, tmp_path):
    """As where it was trained on a GPU, and there is none."""
    moved = shutil.copytree(whole, tmp_path / "moved")
    text = (moved / "config.yaml").read_text()
    assert "device:" not in text
    (moved / "config.yaml").write_text(text + "device: cuda:99\n")
    with pytest.raises(SerError, match=r"device=cuda:99 cannot be used: .*; choose another, e\.g\. cpu"):
        train.Run.open(moved).predict(store_path)
    found = train.Run.open(moved, device="cpu").predict(store_path)
    assert found.equals(train.Run.open(whole).predict(store_path))


def test_others_get_the_average_of_all_models(whole, store, tmp_path):
    """The same features under other names, in another dataset: no model was tested on them, none trained."""
    renamed = store_of(store, tmp_path / "new.zarr", "new", [f"n{name}" for name in store.names()])
    found = train.Run.open(whole).predict(renamed)
    assert set(found["fold"]) == set(found["part"]) == {""}
    predicted = []
    for fold in range(3):
        for member in range(2):
            predicted.append(of_one_model(whole, ModelKey(fold, member), renamed, tmp_path))
    assert np.allclose(found["V_model"], np.mean(predicted, axis=0), atol=1e-5)
    assert np.allclose(found["V_sd"], np.std(predicted, axis=0), atol=1e-5)
    with pytest.raises(SerError, match=r"1 utterance \(u000\) cannot be used: the store has no such utterance"):
        train.Run.open(whole).predict(renamed, ["u000"])


def of_one_model(folder, key, store, tmp_path):
    """Return what one model predicts of V."""
    opened = train.Run.open(folder)
    opened.folder.__dict__.pop("config", None)
    examples = train.running.opened.load_examples(store, opened.folder.config, opened.folder.goals)
    outputs = train.running.opened.predict_alone(
        train.running.opened.open_model(opened.folder, opened._config, examples, key), examples, examples.names
    )
    goal = opened.folder.goals["regression"]
    return goal.decode(goal.represent(outputs["regression"]))["V"]


def store_of(store, path, dataset, names, features=("states", "pitch"), **changes):
    """Write the same frames with other names, or settings of the states, or as another dataset."""
    from featurestore.access.writer import StoreWriter
    from featurestore.format.plan import FeaturePlan, Plan

    old = dict(zip(names, store.names(), strict=True))
    table = store.utterances.drop(columns=["shard", "slot"]).set_axis(pd.Index(names, name="name"))
    writer = StoreWriter(path)
    with writer.lock():
        writer.plan(Plan.make(table, 30.0, dataset=dataset, ranges=store.ranges, left_out={}))
        for feature in features:
            part = store.feature(feature)
            spec = part.spec.model_copy(update={"dtype": "float32", **(changes if feature == "states" else {})})
            firsts = np.array([part.times(old[name])[0] for name in names])
            frames = np.array([part.frames(old[name]) for name in names])
            writer.plan_feature(feature, FeaturePlan(spec, frames, firsts))
            for number in writer.pending(feature):
                with writer.shard(feature, number) as shard:
                    for name in shard.names:
                        shard.add(name, store[old[name]][feature][: spec.layers])
            writer.commit(feature)
    return featurestore.open(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": 2}, "layers: 3 in the run, 2 in the store"),
        ({"provenance": {"settings": {}, "weights": "ab12"}}, "weights: None in the run, ab12 in the store"),
        ({"provenance": {"settings": {"trim": True}}}, "trim: None in the run, True in the store"),
    ],
)
def test_a_store_of_other_features_says_what_differs(whole, store, tmp_path, changes, message):
    other = store_of(store, tmp_path / "new.zarr", "toy", store.names(), **changes)
    with pytest.raises(SerError, match=message) as error:
        train.Run.open(whole).predict(other)
    assert "\n" not in str(error.value)
    assert f"states in {other.path} is not what {whole} was trained on" in str(error.value)


def test_a_store_that_lacks_a_feature_says_so(whole, store, tmp_path):
    other = store_of(store, tmp_path / "new.zarr", "toy", store.names(), features=("states",))
    with pytest.raises(SerError, match="no feature 'pitch'"):
        train.Run.open(whole).predict(other)
    with pytest.raises(SerError, match="no feature 'pitch'"):
        write_predictions(whole, [str(other.path)], tmp_path / "out.csv", None, lambda _: None)
    assert not (tmp_path / "out.csv").exists()


def test_a_protocol_gives_the_same_folds(store, whole, tmp_path):
    settings = ["members=2", "targets=[V,emotion]"]
    folder = trained(
        store, tmp_path, *settings, f"protocol={whole / 'protocol.json'}", "splits=leave_one_out", "folds=[1]"
    )
    assert (folder / "protocol.json").read_bytes() == (whole / "protocol.json").read_bytes()
    found, expected = (json.loads((one / "metrics.json").read_text()) for one in (folder, whole))
    assert found["protocol_sha256"] == expected["protocol_sha256"]
    mine, theirs = contents(folder, *RESULTS), contents(whole, *RESULTS)
    assert all(mine[name] == theirs[name] for name in mine)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("u007", "u001", 1), "has been changed: its hash is"),
        (lambda text: text.replace('"toy"', '"other"', 1), "has been changed: its hash is"),
        (lambda text: text[:-30], "is no protocol: "),
        (lambda text: "[]", "is no protocol: "),
        (lambda text: text.replace('"folds"', '"fold"'), "is no protocol: "),
    ],
)
def test_a_protocol_that_was_changed_is_refused(store, whole, tmp_path, change, message):
    file = tmp_path / "protocol.json"
    file.write_text(change((whole / "protocol.json").read_text()))
    with pytest.raises(SerError, match=message) as error:
        trained(store, tmp_path / "runs", f"protocol={file}")
    assert "\n" not in str(error.value)
    with pytest.raises(SerError, match="cannot be read: No such file"):
        trained(store, tmp_path / "runs", f"protocol={tmp_path / 'nowhere'}")
    assert not (tmp_path / "runs").exists()


def test_a_protocol_of_another_dataset_or_of_absent_names_is_refused(store, changed, whole, tmp_path):
    file = whole / "protocol.json"
    renamed = store_of(store, tmp_path / "new.zarr", "new", store.names())
    with pytest.raises(SerError, match="is of the dataset toy, the store is of new"):
        trained(renamed, tmp_path, f"protocol={file}")
    store.utterances.loc["u003", "V"] = np.nan
    with pytest.raises(SerError, match=r"names 1 utterances that cannot be used here \(u003\)"):
        trained(changed(store.utterances), tmp_path, f"protocol={file}")


@pytest.mark.parametrize("file", ["models/fold_1_member_0.safetensors", "outputs/fold_1_member_0.safetensors"])
@pytest.mark.parametrize("damage", [lambda old: b"", lambda old: old[: len(old) // 2], lambda old: b"\xff" * len(old)])
def test_a_damaged_file_of_a_run_is_named(store, whole, tmp_path, file, damage):
    import shutil

    folder = shutil.copytree(whole, tmp_path / "run")
    old = (folder / file).read_bytes()
    (folder / file).write_bytes(damage(old))
    use = (
        (lambda: train.Run.open(folder).predict(store))
        if "models" in file
        else (lambda: resume(folder, lambda _: None))
    )
    with pytest.raises(SerError, match=f"{file} is damaged") as error:
        use()
    assert "\n" not in str(error.value)
    (folder / file).unlink()
    resume(folder, lambda _: None)
    assert (folder / file).read_bytes() == old
