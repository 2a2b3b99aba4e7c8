"""Several targets at once, any column of labels, labels that are missing, and how tasks are weighed."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

import featurestore
from featurestore.access.writer import StoreWriter
from featurestore.operations.export import add_labels
from featurestore.shared.config import load
from featurestore.shared.errors import SerError
from train.config import TrainConfig
from train.examples.examples import load_examples
from train.models.training import Training
from train.numerics.metrics import ccc
from train.running.run import run
from train.tasks.regression import Regression

QUICK = ["splits.k=3", "width=8", "optim.epochs=2", "workers=1", "fusion=none"]


def trained(store, tmp_path, *overrides):
    """Return the folder, predictions and metrics of a run."""
    folder, results = run(store, load(TrainConfig, [], [*QUICK, f"runs={tmp_path}", *overrides]), lambda _: None)
    return folder, pd.read_csv(folder / "predictions.csv", index_col="name", keep_default_na=False), results


def test_numbers_and_names_together(store, tmp_path):
    folder, table, results = trained(store, tmp_path, "targets=[V,emotion,A]")
    assert results["metrics"] == {"V": "CCC", "A": "CCC", "emotion": "UAR"}
    for system in ("model", "ridge", "model - ridge"):
        assert list(results["results"][system]) == ["V", "A", "emotion", "mean"]
        figures = [results["results"][system][target]["value"] for target in ("V", "A", "emotion")]
        assert results["results"][system]["mean"]["value"] == pytest.approx(np.mean(figures))
    of_numbers = [f"{target}{system}" for system in ("", "_model", "_ridge") for target in "VA"]
    of_names = [f"emotion_{system}{of}" for system in ("model", "ridge") for of in ("", "_anger", "_calm", "_joy")]
    assert list(table) == ["fold", "speaker", *of_numbers, "emotion", *of_names]
    assert {"scatter.png", "confusion_emotion.png"} <= {file.name for file in (folder / "plots").iterdir()}
    recalls = [(table["emotion_model"] == name)[table["emotion"] == name].mean() for name in set(table["emotion"])]
    assert results["results"]["model"]["emotion"]["value"] == pytest.approx(np.mean(recalls))
    assert results["results"]["model"]["A"]["value"] == pytest.approx(ccc(table["A"], table["A_model"]), abs=1e-6)


def test_any_column_of_names_that_is_added_later(copied, tmp_path):
    """Some have no emotion_4, as in IEMOCAP; gender is that of the speaker."""
    before = featurestore.open(copied).utterances
    names = before["emotion"].replace({"calm": "neutral"}).where(np.arange(96) % 4 > 0, "")
    gender = pd.Series(np.where(before["speaker"].isin(["s0", "s2", "s4"]), "f", "m"), before.index)
    pd.DataFrame({"emotion_4": names, "gender": gender}).to_csv(tmp_path / "more.csv")
    writer = StoreWriter(copied)
    with writer.change_at_once():
        writer.replace_table(add_labels(writer.table, tmp_path / "more.csv", replace=False))
    store = featurestore.open(copied)
    _, table, results = trained(store, tmp_path, "targets=[emotion_4]", "baseline=false")
    assert len(table) == 72
    assert set(results["skipped"].values()) == {"no label emotion_4"}
    assert set(table["emotion_4_model"]) <= {"anger", "neutral", "joy"}
    _, table, results = trained(store, tmp_path, "targets=[gender]", "splits=leave_one_out", "folds=[0,1]")
    assert set(table["gender_model"]) <= {"f", "m"}
    assert results["metrics"] == {"gender": "UAR"}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["targets=[V,V]"], "each target is expected once, found V more than once"),
        (["targets=[V,nonsense]"], "has no labels nonsense; it has speaker, split, emotion, V, A, D"),
        (["targets=[V,A]", "loss=cross_entropy"], "loss=cross_entropy is of a classification"),
        (["tasks.a={name: regression, targets: [V]}", "targets=[A]"], "found tasks beside targets or loss"),
        (
            ["tasks={a: {name: regression, targets: [V]}, b: {name: regression, targets: [V]}}"],
            "found V more than once",
        ),
        (["tasks.a={name: regression, targets: []}"], "expected one or more columns, each once"),
        (["tasks.a={name: regression, targets: [speaker]}"], "expected a scale for speaker, found none"),
        (["tasks.a={name: regression, targets: [duration]}"], "expected a scale for duration, found none"),
        (
            ["tasks.a={name: regression, targets: [V], ranges: {A: [0, 1]}}"],
            "found a range of A, which is none of the targets",
        ),
        (["tasks.a={name: regression, targets: [V], ranges: {V: [5, 1]}}"], "expected a scale for V, found 5 to 1"),
        (["tasks.a={name: regression, targets: [V], ranges: {V: [2, 3]}}"], "is outside its scale, 2 to 3"),
        (["targets=[duration]"], "label duration holds numbers, e.g. .*: they are no categories; regress them"),
        (["targets=[split,split_set]"], "has no labels split_set"),
    ],
)
def test_targets_that_cannot_be(store, tmp_path, overrides, message):
    with pytest.raises(SerError, match=message) as error:
        run(store, load(TrainConfig, [], [*QUICK, f"runs={tmp_path}", *overrides]), lambda _: None)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_a_prediction_stays_within_the_declared_range(store):
    goal = Regression().learn(store.utterances, store.ranges, "the store")
    represented = goal.represent(torch.tensor([[-3.0, 0.5, 9.0]]))
    found = {target: float(values[0]) for target, values in goal.decode(represented).items()}
    (low, _), (middle, other), (_, high) = (store.ranges[target] for target in "VAD")
    assert found == {"V": low, "A": (middle + other) / 2, "D": high}


def test_a_number_with_a_range_of_its_own(store, changed, tmp_path):
    store.utterances["arousal"] = 20 * store.utterances["A"] - 20
    store = changed(store.utterances)
    task = "tasks.r={name: regression, targets: [arousal], ranges: {arousal: [0, 80]}}"
    folder, table, results = trained(store, tmp_path, task, "optim.epochs=1")
    assert results["metrics"] == {"arousal": "CCC"}
    assert np.allclose(table["arousal"], store.utterances["arousal"].loc[table.index])
    assert json.loads((folder / "run.json").read_text())["goals"] == {"r": {"ranges": {"arousal": [0.0, 80.0]}}}
    with pytest.raises(SerError, match="expected a scale for arousal, found none"):
        trained(store, tmp_path, "tasks.r={name: regression, targets: [arousal]}")


def some_missing(table):
    """Return the table with V missing for 20, the emotion for 20 others, both for one."""
    table = table.copy()
    table.loc[table.index[:20], "V"] = np.nan
    table.loc[table.index[20:40], "emotion"] = ""
    table.loc["u090", ["V", "emotion"]] = [np.nan, ""]
    return table


def test_missing_labels_are_counted_and_masked(store, changed, tmp_path):
    changed_store = changed(some_missing(store.utterances))
    _, table, results = trained(changed_store, tmp_path, "targets=[V,emotion]", "missing=mask")
    assert results["skipped"] == {"u090": "no label of any target"}
    assert results["warnings"] == [
        "label V is missing for 20 of 95 utterances: they do not count for it",
        "label emotion is missing for 20 of 95 utterances: they do not count for it",
    ]
    assert len(table) == 95
    labelled = table[table["V"] != ""]
    assert len(labelled) == 75
    for system in ("model", "ridge"):
        expected = ccc(labelled["V"].astype(float), labelled[f"V_{system}"].astype(float))
        assert results["results"][system]["V"]["value"] == pytest.approx(expected, abs=1e-5)
        named = table[table["emotion"] != ""]
        recalls = [(part[f"emotion_{system}"] == name).mean() for name, part in named.groupby("emotion")]
        assert results["results"][system]["emotion"]["value"] == pytest.approx(np.mean(recalls))
    _, table, results = trained(changed_store, tmp_path, "targets=[V,emotion]")
    assert (len(table), len(results["skipped"])) == (55, 41)


def test_the_loss_is_that_of_the_labels_that_are_there(store):
    """Whatever else an utterance lacks: a batch without V trains the emotion alone, and the other way round."""
    config = load(TrainConfig, [], [*QUICK, "targets=[V,emotion]", "missing=mask", "head.dropout=0"])
    whole = load_examples(store, config)
    store.utterances.update(some_missing(store.utterances)[["V"]])
    store.utterances[["V", "emotion"]] = some_missing(store.utterances)[["V", "emotion"]]
    some = load_examples(store, config)
    rows = {name: row for row, name in enumerate(some.names)}
    of_whole = Training(whole, config, whole.names, [], 1, 0)
    of_some = Training(some, config, some.names, [], 1, 0)
    of_some.model.load_state_dict(of_whole.model.state_dict())
    names = some.names[:20]  # none of them has V
    batch = some.batch(np.array([rows[name] for name in names]))
    loss = of_some._loss(of_some.model.eval()(batch), batch.targets)
    batch = whole.batch(whole.rows(names))
    outputs = of_whole.model.eval()(batch)
    alone = whole.goals["emotion"].loss(outputs["emotion"], batch.targets["emotion"])
    assert loss.item() == pytest.approx(alone.item(), abs=1e-6)
    loss.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in of_some.model.parameters())


def test_missing_labels_of_all_of_a_part_are_refused(store, tmp_path):
    store.utterances.loc[store.utterances["split"] == "train", "V"] = np.nan
    settings = ["targets=[V,emotion]", "missing=mask", "splits=given"]
    with pytest.raises(SerError, match="fold 0: label V is the same in all of train: nothing can be learned from it"):
        run(store, load(TrainConfig, [], [*QUICK, f"runs={tmp_path}", *settings]), lambda _: None)


def test_weights_of_tasks_are_learned(store, tmp_path):
    settings = [*QUICK, "targets=[V,emotion]", "weights=learned", "optim.epochs=4"]
    config = load(TrainConfig, [], settings)
    examples = load_examples(store, config)
    training = Training(examples, config, examples.names[:60], examples.names[60:], 4, 0)
    while not training.finished:
        training.epoch()
    found = training.model.log_variances
    assert found.isfinite().all()
    assert (found != 0).all()
    _, _, learned = trained(store, tmp_path, *settings)
    _, _, fixed = trained(store, tmp_path, *settings, "weights=fixed")
    assert learned["results"]["model"] != fixed["results"]["model"]


@pytest.mark.parametrize("lacking", [["V"], ["emotion"], []])
def test_a_weight_is_learned_where_a_batch_has_labels(store, lacking):
    store.utterances.loc["u000":"u019", lacking] = np.nan
    config = load(TrainConfig, [], [*QUICK, "targets=[V,emotion]", "missing=mask", "weights=learned"])
    examples = load_examples(store, config)
    training = Training(examples, config, examples.names, [], 1, 0)
    batch = examples.batch(np.arange(20))
    training._loss(training.model.eval()(batch), batch.targets).backward()
    learned = dict(zip(["V", "emotion"], training.model.log_variances.grad != 0, strict=True))
    assert learned == {target: target not in lacking for target in learned}


def test_the_weight_of_a_task_weighs_its_loss(store):
    def loss_of(first, second):
        tasks = [
            f"tasks.a={{name: regression, targets: [V], weight: {first}}}",
            f"tasks.b={{name: classification, weight: {second}}}",
        ]
        config = load(TrainConfig, [], [*QUICK, *tasks])
        examples = load_examples(store, config)
        training = Training(examples, config, examples.names, [], 1, 0)
        batch = examples.batch(np.arange(20))
        with torch.no_grad():
            return training._loss(training.model.eval()(batch), batch.targets).item()

    one, two, both = loss_of(3, 1), loss_of(1, 3), loss_of(1, 1)
    assert one + two == pytest.approx(4 * both, rel=1e-5)
    assert one != pytest.approx(two, rel=1e-3)
