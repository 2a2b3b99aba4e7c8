"""Configurations are chosen by inner folds, and each outer fold is tested once, by what was chosen for it."""

import json

import numpy as np
import pandas as pd
import pytest

import featurestore
from featurestore.shared.config import load
from featurestore.shared.errors import SerError
from train.commands.nested import nested_selection
from train.config import TrainConfig
from train.examples.protocol import read_protocol
from train.numerics.metrics import ccc

QUICK = ["splits={name: nested, outer: {name: kfold, k: 3}, within: {name: kfold, k: 3}}", "width=8", "workers=1"]
QUICK += [
    "plots=false",
    "optim.epochs=4",
    "streams.speech.feature=states",
    "fusion=none",
    "targets=[A, D]",
    "optim.lr=1e-2",
]
LAYERS = {"streams.speech.layers=0": [0], "streams.speech.layers=[1,2]": [1, 2]}
"""Layer 0 is noise, layers 1 and 2 hold A and D."""


def configs(tmp_path, *more):
    return {words: load(TrainConfig, [], [*QUICK, f"runs={tmp_path}", *more, words]) for words in LAYERS}


@pytest.fixture(scope="module")
def selected(store_path, tmp_path_factory):
    return nested_selection(
        featurestore.open(store_path), configs(tmp_path_factory.mktemp("runs")), lambda line: None, all_tested=True
    )


def test_the_one_that_can_learn_is_chosen_for_each_fold(selected):
    folder, found = selected
    noise, speech = LAYERS
    assert [one.name for one in found.choices] == [speech] * 3
    assert all(one.scores[speech] > one.scores[noise] + 0.2 for one in found.choices)
    table = pd.read_csv(folder / "predictions.csv", index_col="name")
    assert table.index.is_unique
    assert len(table) == 96
    assert set(table["configuration"]) == {speech}
    values = [ccc(table[target], table[f"{target}_model"]) for target in ("A", "D")]
    assert found.honest["mean"][0] == pytest.approx(np.mean(values))
    note = json.loads((folder / "nested.json").read_text())
    assert note["honest"]["A"]["value"] == pytest.approx(values[0])
    assert note["best_on_test"] == speech
    assert note["optimism"]["mean"]["value"] == pytest.approx(0, abs=1e-12)  # the same was chosen everywhere


def test_nothing_that_chooses_is_of_the_test_part_of_its_fold(selected):
    folder, _ = selected
    protocol = read_protocol(folder / "protocol.json")
    for number, fold in enumerate(protocol.folds):
        inner = read_protocol(folder / f"inner_{number}.json")
        assert not set(inner.utterances) & set(fold.test)
        assert set(inner.utterances) == {*fold.train, *fold.dev}
        for path in (folder / f"inner_{number}").rglob("predictions.csv"):
            assert not set(pd.read_csv(path)["name"]) & set(fold.test)


def test_what_cannot_be_chosen_among_is_refused(store, tmp_path):
    one, other = configs(tmp_path).items()
    with pytest.raises(SerError, match="found 1 configuration to choose from: expected two"):
        nested_selection(store, dict([one]), lambda line: None)
    others = {"targets=[V]": load(TrainConfig, [], [*QUICK, "targets=[V]", f"runs={tmp_path}"])}
    with pytest.raises(SerError, match=r"targets=\[V\] predicts V \(CCC\), .* A \(CCC\), D \(CCC\): expected the same"):
        nested_selection(store, dict([other]) | others, lambda line: None)


def test_the_command(commands, store_path, tmp_path):
    chosen = [word for words in LAYERS for word in ("--choose", words)]
    result = commands.run("nested", "--store", store_path, *chosen, *QUICK, f"runs={tmp_path}")
    assert result.returncode == 0, result.stderr
    assert "fold 2: streams.speech.layers=[1,2] is chosen" in result.stdout
    assert "chosen by inner folds" in result.stdout
    (folder,) = tmp_path.rglob("nested/exp_1")
    assert (folder / "nested.json").exists()
