"""What a run says of its predictions: metrics, classes, groups, the workbook, the figures, and what replays it."""

import importlib
import json

import numpy as np
import openpyxl
import pandas as pd
import pytest
from sklearn import metrics

import featurestore
from featurestore.shared.config import load
from featurestore.shared.errors import SerError
from train.config import TrainConfig
from train.evaluation.grouping import duration_quarters
from train.examples.examples import load_examples
from train.numerics.metrics import ccc
from train.plots.run_plots import plot_curves
from train.running.attention import attention_weights
from train.running.folder import RunFolder
from train.running.run import run
from train.running.sinks import check_sinks, write_sinks

QUICK = ["splits.k=3", "width=8", "optim.epochs=3", "optim.lr=5e-3", "workers=1", "fusion=none"]
CLASSES = ["anger", "calm", "joy"]


def trained(store, runs, *overrides):
    """Return the folder, predictions and metrics of a run."""
    folder, results = run(store, load(TrainConfig, [], [*QUICK, f"runs={runs}", *overrides]), lambda _: None)
    assert json.loads((folder / "metrics.json").read_text()) == results
    return folder, pd.read_csv(folder / "predictions.csv", index_col="name", keep_default_na=False), results


@pytest.fixture(scope="module")
def several(store_path, tmp_path_factory):
    """A number and names, two members, labels that are missing, a speaker whose name begins as a formula does."""
    import shutil

    from featurestore.access.writer import StoreWriter

    path = shutil.copytree(store_path, tmp_path_factory.mktemp("stores") / "toy.zarr")
    table = featurestore.open(path).utterances
    table["gender"] = ["f", "m", ""] * 32
    table["speaker"] = table["speaker"].replace({"s0": "=1+1"})
    table.loc[table.index[:20], "V"] = np.nan
    table.loc[table.index[20:40], "emotion"] = ""
    table.loc["u050", "duration"] = np.nan
    writer = StoreWriter(path)
    with writer.change_at_once():
        writer.replace_table(table)
    settings = ["targets=[V,emotion]", "missing=mask", "members=2", "pooling=attention", "attention_of=[u003]"]
    return trained(featurestore.open(path), tmp_path_factory.mktemp("runs"), *settings)


def labelled(table, target):
    return table[table[target] != ""]


def test_metrics_of_numbers_are_those_of_the_predictions(several):
    _, table, results = several
    rows = labelled(table, "V")
    assert len(rows) == 76
    true = rows["V"].astype(float)
    for system in ("model", "ridge"):
        figures, predicted = results["figures"][system]["V"], rows[f"V_{system}"]
        expected = {
            "CCC": ccc(true, predicted),
            "PCC": np.corrcoef(true, predicted)[0, 1],
            "RMSE": metrics.root_mean_squared_error(true, predicted),
            "MAE": metrics.mean_absolute_error(true, predicted),
            "R2": metrics.r2_score(true, predicted),
        }
        assert list(figures) == list(expected)
        for metric, value in expected.items():
            assert figures[metric]["value"] == pytest.approx(value, abs=1e-5)
            assert figures[metric]["low"] < value < figures[metric]["high"]
            assert len(figures[metric]["folds"]) == 3
        assert figures["CCC"] == results["results"][system]["V"]
    assert len(results["figures"]["model"]["V"]["RMSE"]["members"]) == 2
    both = [results["figures"][system]["V"]["MAE"]["value"] for system in ("model", "ridge")]
    assert results["figures"]["model - ridge"]["V"]["MAE"]["value"] == pytest.approx(both[0] - both[1])


def test_metrics_of_names_are_those_of_the_predictions(several):
    _, table, results = several
    rows = labelled(table, "emotion")
    for system in ("model", "ridge"):
        figures, (true, predicted) = results["figures"][system]["emotion"], (rows["emotion"], rows[f"emotion_{system}"])
        scores = rows[[f"emotion_{system}_{name}" for name in CLASSES]].to_numpy()
        assert [CLASSES[number] for number in scores.argmax(axis=1)] == predicted.tolist()
        assert figures["accuracy"]["value"] == pytest.approx(metrics.accuracy_score(true, predicted))
        for metric, how in {"macro_F1": "macro", "weighted_F1": "weighted"}.items():
            expected = metrics.f1_score(true, predicted, average=how, zero_division=0)
            assert figures[metric]["value"] == pytest.approx(expected)
        found = results["classes"][system]["emotion"]
        assert found["confusion"] == metrics.confusion_matrix(true, predicted, labels=CLASSES).tolist()
        areas = [metrics.roc_auc_score(true == name, scores[:, number]) for number, name in enumerate(CLASSES)]
        assert [found["each"][name]["AUC"] for name in CLASSES] == pytest.approx(areas)
        assert found["macro_AUC"] == pytest.approx(np.mean(areas))
    scores = rows[[f"emotion_model_{name}" for name in CLASSES]].to_numpy()
    assert np.allclose(scores.sum(axis=1), 1)
    surer = scores.max(axis=1).mean() - metrics.accuracy_score(rows["emotion"], rows["emotion_model"])
    assert results["figures"]["model"]["emotion"]["overconfidence"]["value"] == pytest.approx(surer)


def test_a_ridge_gives_scores_that_are_not_calibrated(several):
    _, _, results = several
    assert {"ECE", "overconfidence"} <= set(results["figures"]["model"]["emotion"])
    for system in ("ridge", "model - ridge"):
        assert list(results["figures"][system]["emotion"]) == ["UAR", "accuracy", "macro_F1", "weighted_F1"]
    assert "calibration" not in results["classes"]["ridge"]["emotion"]


def test_groups_are_those_of_the_table(several):
    _, table, results = several
    groups = results["groups"]
    assert list(groups) == ["speaker", "gender", "emotion", "duration"]
    assert set(groups["gender"]) == {"f", "m", ""}
    assert set(groups["emotion"]) == {*CLASSES, ""}
    for column in groups.values():
        assert sum(of["utterances"] for of in column.values()) == 96
    assert groups["duration"][""]["utterances"] == 1
    assert len(groups["duration"]) == 5
    for speaker, rows in table.groupby("speaker"):
        found, some = groups["speaker"][speaker], labelled(rows, "V")
        assert found["utterances"] == 16
        assert found["model"]["V"]["labelled"] == len(some)
        assert found["model"]["V"]["CCC"] == pytest.approx(ccc(some["V"].astype(float), some["V_model"]), abs=1e-5)
        some = labelled(rows, "emotion")
        expected = metrics.accuracy_score(some["emotion"], some["emotion_ridge"])
        assert found["ridge"]["emotion"]["accuracy"] == pytest.approx(expected)
        assert {found["model"]["V"][end] for end in ("low", "high")} == {None}  # of one speaker there is no interval
    genders = np.array(["f", "m", ""])[table.index.str[1:].astype(int) % 3]
    for value, found in groups["gender"].items():
        rows = labelled(table[genders == value], "V")
        figure = found["model"]["V"]
        assert figure["low"] - 1e-12 <= figure["CCC"] <= figure["high"] + 1e-12
        assert figure["labelled"] == len(rows)
        assert figure["CCC"] == pytest.approx(ccc(rows["V"].astype(float), rows["V_model"]), abs=1e-5)
    nothing = groups["emotion"][""]["model"]["emotion"]
    assert nothing["labelled"] == 0
    assert {value for key, value in nothing.items() if key != "labelled"} == {None}


def test_the_workbook_says_what_metrics_json_does(several):
    folder, _, results = several
    sheets = pd.read_excel(folder / "report.xlsx", sheet_name=None, keep_default_na=False)
    assert list(sheets) == ["metrics", "confusion", "classification report", "per speaker", "by group"]
    first = sheets["metrics"].iloc[0]
    assert first[["system", "target", "metric", "selects"]].tolist() == ["model", "V", "CCC", True]
    assert first["value"] == pytest.approx(results["results"]["model"]["V"]["value"])
    assert {"fold 0", "fold 1", "fold 2"} <= set(sheets["metrics"])
    assert "=1+1" in set(sheets["per speaker"]["value"])
    counts = sheets["confusion"].query("system == 'model' and kind == 'utterances'")
    found = counts[[f"predicted {name}" for name in CLASSES]].to_numpy()
    assert found.tolist() == results["classes"]["model"]["emotion"]["confusion"]
    book = openpyxl.load_workbook(folder / "report.xlsx")
    assert not [cell for sheet in book for row in sheet.iter_rows() for cell in row if cell.data_type == "f"]


def test_every_figure_is_there_twice(several):
    folder, _, _ = several
    names = ["loss", "dev", "layer_weights", "scatter", "attention_u003"]
    names += [f"{what}_emotion" for what in ("confusion", "roc", "precision_recall", "calibration")]
    found = {file.name for file in (folder / "plots").iterdir()}
    assert found == {f"{name}.{kind}" for name in names for kind in ("png", "svg")}


def test_a_figure_comes_out_with_the_same_bytes(tmp_path):
    for part in ("a", "b"):
        plot_curves(tmp_path / part, [[{"loss": 1.0, "dev": 0.1}, {"loss": 0.5, "dev": 0.2}]], [2])
    for name in ("loss.svg", "loss.png"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_class_that_is_not_tested_and_no_speakers(store, changed, tmp_path):
    table = store.utterances.drop(columns=["speaker", "duration"])
    tested = table["split"] == "test"
    table.loc[tested, "emotion"] = table.loc[tested, "emotion"].replace({"joy": "calm"})
    _, _, results = trained(changed(table), tmp_path, "targets=[emotion]", "splits=given", "baseline=false")
    assert list(results["groups"]) == ["emotion"]
    found = results["classes"]["model"]["emotion"]
    joy = found["each"]["joy"]
    assert joy == {"precision": 0.0, "recall": 0.0, "F1": 0.0, "support": 0, "AUC": None, "AP": None}
    assert found["macro_AUC"] == pytest.approx(np.mean([found["each"][name]["AUC"] for name in ("anger", "calm")]))
    figures = results["figures"]["model"]["emotion"]
    recalls = [found["each"][name]["recall"] for name in ("anger", "calm")]
    assert figures["UAR"]["value"] == pytest.approx(np.mean(recalls))
    assert all(figure["low"] <= figure["value"] <= figure["high"] for figure in figures.values())


def test_quarters_of_durations():
    found = duration_quarters(pd.Series([1.0, 2.0, 3.0, 4.0, np.nan, 10.0, 20.0, 30.0, 40.0], list("abcdefghi")))
    expected = ["1: 1.00 to 2.00 s", "2: 3.00 to 4.00 s", "", "3: 10.00 to 20.00 s", "4: 30.00 to 40.00 s"]
    assert list(dict.fromkeys(found)) == expected
    assert set(duration_quarters(pd.Series([2.0] * 5))) == {"1: 2.00 to 2.00 s"}
    assert set(duration_quarters(pd.Series([np.nan] * 2))) == {""}


def test_attention_is_that_of_the_models_that_tested_the_utterance(several):
    folder = RunFolder(several[0])
    examples = load_examples(folder.open_store(), folder.config, folder.goals, labelled=True)
    weights = attention_weights(folder, examples, "u003")
    assert weights.shape == (2, examples.lengths[examples.rows(["u003"])[0]])
    assert np.allclose(weights.sum(axis=1), 1)
    assert weights.std(axis=1).min() > 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["attention_of=[u000]"], "attention_of needs a pooling that weighs frames: found mean, take attention"),
        (["attention_of=[u000,who]", "pooling=attention"], "attention_of: who in no test part of the run"),
    ],
)
def test_attention_that_cannot_be_shown_is_refused(store, tmp_path, settings, message):
    with pytest.raises(SerError, match=message):
        run(store, load(TrainConfig, [], [*QUICK, f"runs={tmp_path}", *settings]), lambda _: None)
    assert not list(tmp_path.iterdir())


def test_a_sink_whose_package_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(importlib.import_module("sys").modules, "wandb", None)
    with pytest.raises(SerError, match=r"^log=\[wandb\] needs pip install 'ser-featurestore\[wandb\]'$"):
        check_sinks(("wandb",))


def test_tensorboard_gets_epochs_figures_and_pictures(several):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder, _, results = several
    for _ in range(2):  # what is there is replaced
        write_sinks(("tensorboard",), folder, {"width": 8}, results)
    events = EventAccumulator(str(folder / "tensorboard/run")).Reload()
    (found,) = events.Scalars("model/V/CCC")
    assert found.value == pytest.approx(results["results"]["model"]["V"]["value"], abs=1e-6)
    assert {"scatter", "roc_emotion"} <= set(events.Tags()["images"])
    events = EventAccumulator(str(folder / "tensorboard/fold_1_member_1")).Reload()
    losses = [event.value for event in events.Scalars("epoch/loss")]
    epochs = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    expected = [epoch["loss"] for epoch in epochs if (epoch["fold"], epoch["member"]) == (1, 1)]
    assert losses == pytest.approx(expected, abs=1e-6)
    assert len(list((folder / "tensorboard/run").iterdir())) == 1


def test_wandb_gets_a_run_offline(several):
    pytest.importorskip("wandb", reason="wandb is not installed")
    folder, _, results = several
    write_sinks(("wandb",), folder, {"width": 8}, results)
    (written,) = (folder / "wandb").glob("offline-run-*/run-*.wandb")
    assert b"model/V/CCC" in written.read_bytes()
    assert list((folder / "wandb").glob("offline-run-*/files/media/images/scatter_*.png"))
