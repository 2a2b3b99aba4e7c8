"""Several stores as one, maps of categories, and every corpus on every other."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import featurestore
import train
from featurestore.shared.config import load
from featurestore.shared.errors import SerError
from tests.train.test_same_bits import store_of
from train.commands.matrix import cross_matrix, draw_matrix, matrix_lines
from train.comparison.table_figures import read_table, table_figures
from train.config import TrainConfig
from train.examples.examples import load_examples
from train.examples.protocol import read_protocol
from train.maps import names as map_names
from train.maps import read_map
from train.reading.corpora import open_stores
from train.reading.labels import speaker_numbers
from train.running.run import resume, run
from train.splits.datasets import Datasets

QUICK = ["splits.k=3", "width=8", "optim.epochs=2", "workers=1", "streams.speech.feature=states", "plots=false"]
TEN = (0.0, 10.0)


class OnTen:
    """A store whose labels are said on a scale from 0 to 10."""

    ranges = dict.fromkeys("VAD", TEN)

    def __init__(self, store):
        self._store = store
        table = store.utterances
        self.utterances = table.assign(**{target: (table[target] - 1) / 4 * 10 for target in "VAD"})

    def __getattr__(self, name):
        return getattr(self._store, name)

    def __getitem__(self, name):
        """Return the pitch of an utterance, and states of its shape that are those of no other recording."""
        found = self._store[name]
        states = np.random.default_rng(self._store.index[name]).normal(size=found["states"].shape)
        return {"states": states.astype(np.float32), "pitch": found["pitch"]}


@pytest.fixture(scope="module")
def paths(store_path, tmp_path_factory):
    """The toy store, and one with its frames and names, but of another dataset and on another scale."""
    store, other = featurestore.open(store_path), tmp_path_factory.mktemp("other") / "ten.zarr"
    store_of(OnTen(store), other, "ten", store.names(), dtype="int8")
    return [str(store_path), str(other)]


def config(*overrides):
    return load(TrainConfig, [], [*QUICK, *overrides])


def test_two_stores_are_one(paths):
    toy, ten, both = featurestore.open(paths[0]), featurestore.open(paths[1]), open_stores(paths)
    name = toy.names()[5]
    assert list(both.utterances.index) == [f"{store.dataset}/{name}" for store in (toy, ten) for name in store.names()]
    labels = both.utterances["V"]
    assert labels[f"toy/{name}"] == pytest.approx((toy.utterances["V"][name] - 1) / 4)
    assert labels[f"ten/{name}"] == pytest.approx(ten.utterances["V"][name] / 10)
    assert both.utterances["speaker"][f"ten/{name}"] == f"ten/{ten.utterances['speaker'][name]}"
    part = both.feature("states")
    for store in (toy, ten):
        own, key = store.feature("states"), f"{store.dataset}/{name}"
        assert np.array_equal(part.read(key, [1]).values, own.read(name, [1]).values)
        assert np.array_equal(part.times(key), own.times(name))
        assert part.lengths[both.index[key]] == part.frames(key) == own.frames(name)
    mixed = [f"ten/{toy.names()[3]}", f"toy/{name}", f"ten/{name}"]
    mean, sd = part.pooled(mixed)
    assert np.array_equal(mean[1], toy.feature("states").pooled([name])[0][0])
    assert np.array_equal(sd[2], ten.feature("states").pooled([name])[1][0])


def test_stores_that_do_not_fit_are_refused(paths, store, tmp_path):
    with pytest.raises(SerError, match="are both of the dataset toy: ser-store merge"):
        open_stores([paths[0], paths[0]])
    store_of(store, tmp_path / "less.zarr", "less", store.names(), dtype="int8", layers=2)
    both = open_stores([paths[0], tmp_path / "less.zarr"])
    with pytest.raises(SerError, match="states is not the same: layers: 3 in toy, 2 in less"):
        both.feature("states")


def test_some_datasets_train_and_others_test(paths):
    table = open_stores(paths).utterances
    (fold,) = Datasets(test=("ten",)).folds(table)
    assert fold.test == [name for name in table.index if name.startswith("ten/")]
    speakers = {part: set(table["speaker"].loc[getattr(fold, part)]) for part in ("train", "dev", "test")}
    assert len(fold.train) + len(fold.dev) == 96
    assert not speakers["train"] & speakers["dev"]
    assert speakers["dev"]
    for wrong in (Datasets(test=("nowhere",)), Datasets(test=("ten", "toy")), Datasets(train=("ten",), test=("ten",))):
        with pytest.raises(SerError, match="splits=datasets: found toy, ten, expected some to train"):
            wrong.folds(table)


def test_a_run_on_two_stores_lives_on(paths, tmp_path):
    asked = config("splits={name: datasets, test: [ten]}", f"runs={tmp_path}", "fusion=none")
    folder, results = run(open_stores(paths), asked, lambda _: None)
    assert results["utterances"]["test"] == [96]
    table = pd.read_csv(folder / "predictions.csv", index_col="name")
    assert table["V"].between(0, 1).all()
    found = train.Run.open(folder).predict(open_stores(paths)).loc[table.index]
    assert np.array_equal(found["V_model"], table["V_model"])
    (folder / "metrics.json").unlink()
    before = (folder / "predictions.csv").read_bytes()
    resume(folder, lambda _: None)
    assert (folder / "predictions.csv").read_bytes() == before


def test_each_corpus_has_its_own_statistics_where_asked(paths):
    normalised = config("streams.speech.front={name: layer_sum, normalize: corpus}", "fusion=none")
    examples = load_examples(open_stores(paths), normalised)
    own = [name for name in examples.names if name.startswith("ten/")]
    hearing = examples.clock
    frames = np.concatenate([hearing.front.read(hearing.source, name).decode() for name in own], axis=1)
    assert abs(frames.mean(axis=1)).max() < 0.02
    assert abs(frames.std(axis=1) - 1).max() < 0.02


@pytest.mark.parametrize("name", map_names())
def test_the_maps_that_come_along(name):
    found = read_map(name)
    for dataset, words in found.datasets.items():
        assert words, dataset
        assert set(words.values()) <= set(found.categories)
    assert len(found.datasets) > 1


def test_a_map_takes_what_it_names_and_says_what_it_drops(store, tmp_path):
    file = tmp_path / "two.yaml"
    file.write_text("version: 1\ndatasets: {toy: {anger: bad, joy: good}}\n")
    examples = load_examples(store, config("targets=[emotion]", f"categories={file}", "fusion=none"))
    said = store.utterances["emotion"]
    assert set(examples.table["emotion"]) == {"bad", "good"}
    assert set(examples.skipped) == set(said.index[said == "calm"])
    assert set(examples.skipped.values()) == {"categories=two leaves out the emotion calm of toy"}
    rows = list(read_map(str(file)).report(store.utterances, "toy"))
    assert [row[:3] for row in rows] == [("toy", "anger", "bad"), ("toy", "calm", ""), ("toy", "joy", "good")]
    assert sum(row[3] for row in rows) == 96


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("version: 0\ndatasets: {}\n", "version: Input should be greater"),
        ("version: 1\nwords: {}\n", "is no map"),
        ("- 1\n", "is no map"),
        ("version: 1\ndatasets: {other: {joy: joy}}\n", "is of other: found toy"),
        ("version: 1\ncolumn: mood\ndatasets: {toy: {joy: joy}}\n", "takes the labels mood, which the store lacks"),
    ],
)
def test_maps_that_cannot_be_used(store, tmp_path, content, message):
    file = tmp_path / "map.yaml"
    file.write_text(content)
    with pytest.raises(SerError, match=message):
        load_examples(store, config("targets=[emotion]", f"categories={file}", "fusion=none"))
    with pytest.raises(SerError, match="did you mean 'four'"):
        read_map("fuor")


def test_every_corpus_on_every_other(paths, tmp_path):
    asked = config("targets=[V,emotion]", "fusion=none", f"runs={tmp_path}", "baseline=false")
    folder, matrix = cross_matrix(paths, asked, lambda _: None)
    assert list(pd.read_csv(folder / "matrix.csv").columns) == list(matrix.columns)
    assert len(matrix) == 2 * 2 * 2
    assert {*matrix["utterances"]} == {96}
    assert matrix["value"].between(matrix["low"], matrix["high"]).all()
    assert (folder / "matrix_V.png").exists()
    for _, row in matrix[matrix["target"] == "V"].iterrows():
        figures = json.loads((Path(row["run"]) / "metrics.json").read_text())
        assert row["value"] == pytest.approx(figures["results"]["model"]["V"]["value"], abs=1e-9)
    with pytest.raises(SerError, match="expected two or more"):
        cross_matrix(paths[:1], asked, lambda _: None)


def test_names_that_look_like_nothing_are_names(tmp_path):
    """Utterances, speakers and categories that pandas would take for missing, and speakers that are not known."""
    file = tmp_path / "predictions.csv"
    lines = ["name,fold,speaker,emotion,emotion_model,V,V_model,D,D_model", "NA,0,,None,None,1.5,2,,0.5"]
    file.write_text("\n".join([*lines, "null,0,,joy,None,,1,,0.5", "nan,1,,01,1,3,3,,0.5", "a,1,NA,,joy,2,2,,0.5"]))
    metrics = {"emotion": "UAR", "V": "CCC", "D": "CCC"}
    table = read_table(file, metrics)
    assert list(table.index) == ["NA", "null", "nan", "a"]
    assert list(table["speaker"]) == ["", "", "", "NA"]
    assert len(set(speaker_numbers(table))) == 4
    assert list(table["emotion"].fillna("-")) == ["None", "joy", "01", "-"]
    figures = table_figures(table, metrics)
    assert figures["emotion"][0] == pytest.approx(1 / 3)
    assert np.isnan(figures["D"][0])
    assert np.isnan(figures["D"][1]).all()


def test_a_dataset_without_a_label_has_an_empty_cell(tmp_path):
    found = {"metric": "CCC", "low": 0.1, "high": 0.3, "utterances": 4, "run": ""}
    cells = [("a", "a", 0.2), ("a", "b", np.nan), ("b", "a", 0.2), ("b", "b", np.nan)]
    rows = pd.DataFrame([{"train": a, "test": b, "target": "D", "value": v, **found} for a, b, v in cells])
    assert list(matrix_lines(rows))[1:] == [("D CCC", one, "0.200 [0.100, 0.300]", "") for one in "ab"]
    draw_matrix(tmp_path, rows, ["a", "b"])
    assert (tmp_path / "matrix_D.png").exists()


def test_each_pair_is_adapted_where_asked(paths, tmp_path):
    asked = config("targets=[emotion]", "fusion=none", f"runs={tmp_path}", "baseline=false", "lmmd={}")
    _, matrix = cross_matrix(paths, asked, lambda _: None)
    assert len(matrix) == 2 * 2
    for _, row in matrix.iterrows():
        protocol = read_protocol(Path(row["run"]) / "protocol.json")
        across = row["train"] != row["test"]
        assert row["utterances"] == 96
        assert [bool(fold.unlabelled) for fold in protocol.folds] == [across] * len(protocol.folds)
        if across:
            heard = {name.partition("/")[0] for fold in protocol.folds for name in (*fold.unlabelled, *fold.test)}
            assert heard == {row["test"]}


def test_the_order_of_the_stores_does_not_matter_to_predictions(commands, paths, tmp_path):
    """The stores of a run are those of its parts, in whichever order they are given."""
    asked = config("splits={name: datasets, test: [ten]}", f"runs={tmp_path}", "fusion=none", "baseline=false")
    folder, _ = run(open_stores(paths), asked, lambda _: None)
    tested = pd.read_csv(folder / "predictions.csv", index_col="name")
    for number, given in enumerate((paths, paths[::-1])):
        out = tmp_path / f"{number}.csv"
        words = [word for path in given for word in ("--store", path)]
        done = commands.run("predict", folder, *words, "--out", out)
        assert done.returncode == 0, done.stderr
        found = pd.read_csv(out, index_col="name", dtype={"fold": str})
        assert len(found) == 192
        assert found["fold"].loc[tested.index].tolist() == ["0"] * 96
        assert found["part"].value_counts()["test"] == 96
        assert np.array_equal(found["V_model"].loc[tested.index], tested["V_model"])


def test_by_command(commands, paths, tmp_path):
    done = commands.run("maps")
    assert "emodb_emotale" in done.stdout
    done = commands.run("maps", "four", "--store", paths[0])
    assert (done.returncode, "left out" in done.stdout) == (1, False)
    assert "Traceback" not in done.stderr
    words = [word for path in paths for word in ("--store", path)]
    done = commands.run(*words, *QUICK, "splits={name: datasets, test: [toy]}", "fusion=none", f"runs={tmp_path}")
    assert done.returncode == 0, done.stderr
    assert "1 fold," in done.stdout
