"""ser-train compare: runs beside each other."""

import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import featurestore
from featurestore.shared.config import load
from featurestore.shared.errors import SerError
from train.comparison.compare import compare_runs, short_names
from train.comparison.outcomes import Outcome
from train.comparison.systems import MEAN
from train.comparison.tables import escaped, in_words, write_comparison
from train.config import TrainConfig
from train.numerics.metrics import ccc
from train.running.run import run

QUICK = ["fusion=none", "splits.k=3", "width=8", "optim.epochs=2", "workers=1", "baseline=false", "plots=false"]


@pytest.fixture(scope="module")
def trained(store_path, tmp_path_factory):
    """Trains a run, each once."""
    runs, found = tmp_path_factory.mktemp("runs"), {}

    def train(*settings):
        if settings not in found:
            config = load(TrainConfig, [], [*QUICK, f"runs={runs}", *settings])
            found[settings] = run(featurestore.open(store_path), config, lambda line: None)[0]
        return found[settings]

    return train


@pytest.fixture
def copy(trained, tmp_path):
    """A run that a test may change."""
    return shutil.copytree(trained(), tmp_path / "copy")


def change(folder, what):
    table = pd.read_csv(folder / "predictions.csv", dtype=str)
    what(table).to_csv(folder / "predictions.csv", index=False)


def test_figures_are_those_of_the_runs(trained):
    paths = [trained(), trained("seed=1")]
    found = compare_runs(paths)
    assert found.targets == ["V", "A", "D", MEAN]
    for system, path in zip(found.systems, paths, strict=True):
        table = pd.read_csv(path / "predictions.csv")
        values = {target: ccc(table[target], table[f"{target}_model"]) for target in "VAD"}
        for target, value in {**values, MEAN: np.mean(list(values.values()))}.items():
            reached = system.reached[target]
            assert reached.value == pytest.approx(value)
            low, high = reached.interval(found.speakers)
            assert low < value < high


def test_the_other_order_is_the_other_sign(trained):
    paths = [trained(), trained("seed=1")]
    one, other = compare_runs(paths).differences, compare_runs(paths[::-1]).differences
    for a, b in zip(one, other, strict=True):
        assert a.value == pytest.approx(-b.value)
        assert a.interval == pytest.approx((-b.interval[1], -b.interval[0]))
        for what in ("p", "p_swaps", "p_folds", "p_holm", "smallest"):
            assert getattr(a, what) == pytest.approx(getattr(b, what)), what


def test_a_run_beside_itself_does_not_differ(trained):
    for one in compare_runs([trained(), trained()]).differences:
        assert (one.value, one.p, one.p_swaps, one.p_folds, one.interval) == (0, 1, 1, 1, (0, 0))
        assert one.verdict == "not told apart"


def better(path, folder, share=0.9):
    """A copy of a run that predicts much better."""
    shutil.copytree(path, folder)

    def nearer(table):
        for target in "VAD":
            true, predicted = table[target].astype(float), table[f"{target}_model"].astype(float)
            table[f"{target}_model"] = (predicted + share * (true - predicted)).astype(str)
        return table

    change(folder, nearer)
    return folder


def test_models_that_were_trained_once_are_told_apart_as_they_are(trained, tmp_path):
    found = compare_runs([trained(), better(trained(), tmp_path / "better")])
    assert {one.verdict for one in found.differences} == {"worse as trained"}
    text = "\n".join(in_words(found))
    assert re.search(r"mean: .*/better, as it is trained, is better than .* by \+0\.\d+ \[\+.*Holm", text)
    assert "trained once" in text


def test_methods_are_told_apart_by_groups_of_seeds(trained, tmp_path):
    group = [trained(), trained("seed=1"), trained("seed=2")]
    others = [better(path, tmp_path / f"better_{number}") for number, path in enumerate(group)]
    found = compare_runs([*others, *group], seeds=3)
    assert {one.verdict for one in found.differences} == {"better"}
    singles = [compare_runs([path, path]).systems[0].reached[MEAN].value for path in group]
    assert found.systems[1].reached[MEAN].value == pytest.approx(np.mean(singles))
    assert [system.trainings for system in found.systems] == [3, 3]
    assert found.systems[1].reached[MEAN].over_trainings.variance == pytest.approx(np.var(singles, ddof=1) / 3)
    assert "trained once" not in "\n".join(in_words(found))


def test_members_are_left_out_one_by_one(trained):
    path = trained("members=3")
    outcome = Outcome(path)
    others = outcome.without_each()
    assert len(others) == 3
    whole = outcome.table[["V_model", "A_model", "D_model"]].to_numpy()
    assert np.mean([one[["V", "A", "D"]] for one in others], axis=0) == pytest.approx(whole, abs=1e-6)
    found = compare_runs([path, trained("members=3", "seed=5")])
    assert [system.trainings for system in found.systems] == [3, 3]
    assert {one.trained_again for one in found.differences} == {True}
    assert {one.verdict for one in found.differences} == {"not told apart"}


def test_categories(trained):
    found = compare_runs([trained("targets=[emotion]"), trained("targets=[emotion]", "seed=1")])
    assert found.metrics == {"emotion": "UAR"}
    assert found.targets == ["emotion"]
    table = Outcome(trained("targets=[emotion]")).table
    recalls = [(part["emotion_model"] == part["emotion"]).mean() for _, part in table.groupby("emotion")]
    assert found.systems[0].reached["emotion"].value == pytest.approx(np.mean(recalls))


def test_targets_that_not_all_have_are_named(trained):
    found = compare_runs([trained(), trained("targets=[A,V]")])
    assert found.targets == ["V", "A", MEAN]
    assert any(line.startswith("left out: D of ") for line in in_words(found))
    with pytest.raises(SerError, match=r"no target in common: .*V, A, D; .*emotion"):
        compare_runs([trained(), trained("targets=[emotion]")])


def test_pairs_and_holm(trained):
    paths = [trained(), trained("seed=1"), trained("seed=2")]
    every, first = compare_runs(paths), compare_runs(paths, against="first")
    pairs = [(one.first.name, one.second.name) for one in every.differences if one.target == MEAN]
    assert len(pairs) == 3
    assert [(one.first.name, one.second.name) for one in first.differences if one.target == MEAN] == pairs[:2]
    p = sorted(one.p for one in every.differences if one.target == "A")
    assert min(one.p_holm for one in every.differences if one.target == "A") == pytest.approx(min(1, 3 * p[0]))


def test_other_utterances_are_refused(trained, copy):
    change(copy, lambda table: table[table["name"] != "u007"])
    with pytest.raises(SerError, match=r"has other utterances than .*copy, 1 utterance \(u007\) more"):
        compare_runs([trained(), copy])
    with pytest.raises(SerError, match=r"has other utterances than .*copy, 1 utterance \(u007\) more"):
        compare_runs([copy, trained()])


def test_other_labels_are_refused(trained, copy):
    change(copy, lambda table: table.assign(A=["1.5", *table["A"][1:]]))
    with pytest.raises(SerError, match=r"copy has other labels than .*: A of 1 utterances, e.g. of u... 1.5, expected"):
        compare_runs([trained(), copy])


def test_other_folds_are_refused(trained):
    with pytest.raises(SerError, match=r"has other folds than .*, hash .*…, expected .*…: train it with protocol="):
        compare_runs([trained(), trained("splits.k=4")])


def test_groups_are_one_method_with_other_seeds(trained):
    with pytest.raises(SerError, match=r"differs from .* in streams, width: the runs of a group"):
        compare_runs([trained(), trained("width=9"), trained("seed=1"), trained("seed=2")], seeds=2)
    with pytest.raises(SerError, match=r"has the seed 1, as .* has"):
        compare_runs([trained("members=3"), trained("members=3", "seed=1"), trained(), trained("seed=1")], seeds=2)
    with pytest.raises(SerError, match="found 3 runs, expected two groups or more of 2 runs each"):
        compare_runs([trained(), trained("seed=1"), trained("seed=2")], seeds=2)


def test_what_is_no_whole_run_is_refused(trained, copy, tmp_path):
    with pytest.raises(SerError, match=f"{tmp_path} is no run of ser-train"):
        compare_runs([trained(), tmp_path])
    (copy / "predictions.csv").unlink()
    with pytest.raises(SerError, match=r"copy is unfinished: it has no predictions.csv; ser-train resume .*copy"):
        compare_runs([trained(), copy])
    with pytest.raises(SerError, match="found 1 run, expected two runs or more"):
        compare_runs([trained()])


def test_tables_hold_what_is_said(trained, tmp_path):
    named = shutil.copytree(trained("seed=1"), tmp_path / "50%_of_{a&b}")
    found = compare_runs([trained(), named])
    write_comparison(found, tmp_path / "out")
    table = pd.read_csv(tmp_path / "out" / "comparison.csv")
    assert table["target"].tolist() == ["V", "A", "D", MEAN]
    for row, one in zip(table.itertuples(), found.differences, strict=True):
        assert row.difference == pytest.approx(row.first_value - row.second_value)
        assert (row.low, row.high) == pytest.approx(one.interval)
        assert (row.p, row.p_holm, row.verdict) == (pytest.approx(one.p), pytest.approx(one.p_holm), one.verdict)
    latex = (tmp_path / "out" / "comparison.tex").read_text()
    assert r"50\%\_of\_\{a\&b\}" in latex
    assert latex.count(r"\begin{tabular}") == latex.count(r"\end{tabular}") == 2
    lines = [line for line in latex.splitlines() if line.endswith(r"\\")]
    assert {line.count(" & ") for line in lines} == {5, 4}


def test_latex_prints_names_as_they_are():
    assert escaped("a_b & 5% #1 $x$ {y} ~ ^ \\ <") == (
        r"a\_b \& 5\% \#1 \$x\$ \{y\} \textasciitilde{} \textasciicircum{} \textbackslash{} $<$"
    )


def test_names_tell_runs_apart():
    assert short_names([Path("r/a/exp_1"), Path("r/a/exp_2")]) == ["exp_1", "exp_2"]
    assert short_names([Path("r/a/exp_1"), Path("r/b/exp_1"), Path("q/c")]) == ["r/a/exp_1", "r/b/exp_1", "q/c"]
    assert short_names([Path("r/a"), Path("r/a/exp_1")]) == ["a", "a/exp_1"]
    assert short_names([Path("r/a"), Path("r/a")]) == ["a", "a"]


def test_the_command(commands, trained, copy, tmp_path):
    done = commands.run("compare", trained(), trained("seed=1"), "--against", "first", "--out", tmp_path / "out")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["run", "trainings", "V", "CCC", "A", "CCC", "D", "CCC", "mean"]
    assert any("the smallest true difference that 80 % of simulated studies find is 0." in line for line in lines)
    assert any(line.startswith("told apart: Holm's p over 1 pair, ") and "all 64 swaps" in line for line in lines)
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"comparison.csv", "comparison.tex"}
    change(copy, lambda table: table.iloc[1:])
    done = commands.run("compare", trained(), copy)
    assert done.returncode == 1
    assert re.fullmatch(r"ser-train: .* has other utterances than .*\n", done.stderr)
