"""Labels, speakers and features that give no meaningful figure are refused; what may be meant is a warning."""

import json

import numpy as np
import pandas as pd
import pytest

import featurestore
from featurestore.access.writer import StoreWriter
from featurestore.format.plan import FeaturePlan, FeatureSpec
from featurestore.operations.copying import copy_stores
from featurestore.shared.config import load
from featurestore.shared.errors import SerError
from tests.featurestore.toy import place_of
from tests.processes import Command
from train.config import TrainConfig
from train.examples.examples import load_examples
from train.plots.class_plots import plot_confusion
from train.reading.labels import as_names, clean_names, grouped
from train.running.inspection import Inspection
from train.running.run import run
from train.splits import Splits

QUICK = ["splits.k=3", "width=8", "optim.epochs=1", "workers=1", "baseline=false", "plots=false"]
ser_store = Command("featurestore")
CATEGORIES = ["targets=[emotion]", "loss=cross_entropy"]


@pytest.fixture
def refused(store, tmp_path):
    """Return what training on the store is refused with; nothing is left behind."""

    def train(*overrides):
        with pytest.raises(SerError) as error:
            run(store, load(TrainConfig, [], [*QUICK, f"runs={tmp_path / 'runs'}", *overrides]), lambda _: None)
        assert not list(tmp_path.rglob("metrics.json"))
        assert "\n" not in str(error.value)
        return str(error.value)

    return train


@pytest.fixture
def warned(store, changed, tmp_path):
    """Return the warnings of a run, which are in the log, on screen and in metrics.json."""

    def train(*overrides):
        lines = []
        config = load(TrainConfig, [], [*QUICK, f"runs={tmp_path / 'runs'}", *overrides])
        folder, _ = run(changed(store.utterances), config, lines.append)
        metrics = json.loads((folder / "metrics.json").read_text())
        said = [line.removeprefix("warning: ") for line in lines if line.startswith("warning: ")]
        assert said == metrics["warnings"]
        assert all(f"warning: {line}" in (folder / "train_log.txt").read_text() for line in said)
        return metrics["warnings"]

    return train


@pytest.mark.parametrize("value", [99.0, 0.0, -3.0, np.inf, -np.inf, 5.001])
def test_a_label_outside_its_scale_is_named(store, refused, value):
    store.utterances.loc[["u003", "u004", "u010", "u020"], "V"] = value
    assert refused() == (
        f"label V of 4 utterances (u003, u004, u010, …) is outside its scale, 1 to 5, e.g. {value:g}: "
        "correct or empty it (ser-store add-labels --replace)"
    )


def test_rounding_is_not_outside(store):
    store.utterances.loc["u003", "V"] = np.float32(5) + 5e-7
    store.utterances.loc["u004", "V"] = 1 - 1e-9
    assert load_examples(store, load(TrainConfig)).names


def test_labels_that_are_no_numbers(store, refused):
    values = store.utterances["V"].astype(str).astype(object)
    store.utterances["V"] = [None] * 90 + ["high", "low", "", "high", "high", " "]
    assert "label V of 4 utterances (u090, u091, u093, …) is no number, e.g. 'high'" in refused()
    store.utterances["V"] = values.to_numpy() == "1"
    assert "is no number, e.g. 'False'" in refused()
    store.utterances["V"] = ""
    assert "nothing to train on: 96 utterances (u000, u001, u002, …): no label V" in refused()
    store.utterances["V"] = np.nan
    assert "nothing to train on: 96 utterances (u000, u001, u002, …): no label V" in refused()


@pytest.mark.parametrize("scale", [None, [5, 1], [1, 1], [1, np.nan], [-np.inf, np.inf]])
def test_a_store_without_a_scale(store, refused, scale):
    store._attributes["ranges"] = {"A": [1, 5], "D": [1, 5], **({"V": scale} if scale else {})}
    assert "expected a scale for V, found" in refused()


def test_a_label_that_does_not_vary(store, refused, warned):
    table = store.utterances.copy()
    store.utterances["V"] = 3.0
    assert "label V is the same in all utterances: there is nothing to predict" in refused()
    assert "label V is the same in all utterances" in refused("targets=[V]", "splits=given")
    for part, words in (("test", "in all test parts"), ("train", "in all of train: nothing can be learned from it")):
        store.utterances["V"] = table["V"].where(table["split"] != part, 3.0)
        assert words in refused("splits=given")
    store.utterances["V"] = table["V"].where(table["split"] != "dev", 3.0)
    assert "fold 0: label V is the same in all of dev: it has no say in the selection" in warned("splits=given")


def test_categories_that_cannot_be_told_apart(store, refused, warned):
    table = store.utterances.copy()
    store.utterances["emotion"] = "joy"
    assert "all utterances have one emotion, joy: expected two or more" in refused(*CATEGORIES)
    for part in ("train", "test"):
        store.utterances["emotion"] = table["emotion"].where(table["split"] != part, "joy")
        assert "one emotion, joy: expected two or more" in refused(*CATEGORIES, "splits=given")
    store.utterances["emotion"] = table["emotion"].where(table["split"] != "dev", "joy")
    assert "fold 0: dev has one emotion, joy: it hardly selects" in warned(*CATEGORIES, "splits=given")
    store.utterances["emotion"] = table["emotion"].where(table["split"] == "test", "joy")
    store.utterances.loc[table["speaker"] == "s0", "emotion"] = "calm"
    assert "fold 0: train has no utterance of anger, dev or test has: it cannot be recognised" in warned(
        *CATEGORIES, "splits=given"
    )


def test_categories_that_are_numbers(store):
    store.utterances["emotion"] = np.arange(96) % 2 + 0.0
    store.utterances.loc["u003", "emotion"] = np.nan
    examples = load_examples(store, load(TrainConfig, [], CATEGORIES))
    assert (examples.goals["emotion"].classes, examples.skipped) == (["0", "1"], {"u003": "no label emotion"})


@pytest.mark.parametrize("blank", [" ", "\t", "\n", "\xa0", "\u3000", "\u200b", "\ufeff", "\u2060", " \u200b "])
def test_blanks_do_not_make_another_speaker_or_emotion(store, warned, blank):
    for column in ("speaker", "emotion", "split"):
        changed = store.utterances[column].copy()
        changed.iloc[::4] = changed.iloc[::4] + blank
        changed.iloc[1::4] = blank + changed.iloc[1::4]
        store.utterances[column] = changed
    found = warned()
    counts = [f"{column}: the blanks around 48 names do not count, e.g." for column in ("speaker", "split", "emotion")]
    assert [any(line.startswith(count) for line in found) for count in counts] == [True] * 3
    assert len(found) == 3
    examples = load_examples(store, load(TrainConfig, [], CATEGORIES))
    assert examples.goals["emotion"].classes == ["anger", "calm", "joy"]
    for splits in (Splits.kind("kfold")(k=6), Splits.kind("leave_one_out")(), Splits.kind("given")()):
        for part in (examples.table, store.utterances):
            for fold in splits.folds(part):
                parts = [set(examples.table["speaker"].loc[names]) for names in (fold.train, fold.dev, fold.test)]
                assert sum(map(len, parts)) == len(set.union(*parts)) == 6


@pytest.mark.parametrize("other", ["S1", "s 1", "s\u200b1", "\uff53\uff11"])
def test_names_that_look_alike_are_reported(store, warned, other):
    store.utterances.loc["u001", "speaker"] = other
    (line,) = warned()
    assert line.startswith("speaker: names that look alike count as different: ")
    assert repr(other) in line
    assert "'s1'" in line


def test_missing_names():
    column = pd.Series([1.0, np.nan, 2.5, "a", None, " ", True, pd.NA], dtype=object)
    assert as_names(column).tolist() == ["1", "", "2.5", "a", "", "", "True", ""]
    assert clean_names(pd.DataFrame({"V": [1.0]}))[1] == []


def test_a_group_without_a_number_is_no_group(store, refused):
    store.utterances["session"] = [float(i % 5) for i in range(96)]
    store.utterances.loc["u004", "session"] = np.nan
    expected = "splits by session need every utterance's session, found it for 95 of 96"
    assert expected in refused("splits.group=session")
    assert expected in refused("splits=leave_one_out", "splits.group=session")


def test_numbers_as_speakers(store, warned):
    store.utterances["speaker"] = [float(i % 6) for i in range(96)]
    assert warned() == []
    store.utterances.loc[["u000", "u006"], "speaker"] = np.nan
    unknown = "2 utterances (u000, u006) have no speaker: whether parts share theirs cannot be known"
    assert unknown in warned("splits=given")


def test_one_speaker(store, refused, warned):
    store.utterances["speaker"] = "s0"
    assert "3 folds need at least as many speakers, the store has 1" in refused()
    shared = "shared_speakers: fold 0: 1 speakers are in train and in dev (s0) (and 2 more like it: "
    assert shared in refused("splits=given")
    assert warned("splits=given", "unsafe.shared_speakers=true") == [
        "all test utterances are of one speaker, s0: intervals resample speakers, and have no width"
    ]


def test_few_test_speakers(store, warned):
    store.utterances["speaker"] = [f"s{i % 6}" for i in range(96)]
    few = "the test utterances are of {} speakers: intervals, which resample them, are too narrow"
    assert warned("folds=[0]") == [few.format(2)]
    assert warned("folds=[0,1]") == [few.format(4)]
    assert warned() == []


def test_utterances_in_no_part_are_named(store, warned):
    store.utterances.loc["u000", "split"] = "test2"
    store.utterances.loc["u006", "split"] = ""
    assert "2 utterances (u000, u006) are in no part of the splits" in warned("splits=given")


def test_empty_parts(store, refused):
    store.utterances["split"] = "train"
    assert "the store gives no utterance of dev, test" in refused("splits=given")


def test_only_a_pitch_feature_is_log_f0(store, refused):
    expected = "expected f0 in Hz and voiced: choose another feature, or front"
    assert f"states holds 16 channels without names, {expected}" in refused(
        "streams={speech: {}, pitch: {feature: states, front: log_f0}}"
    )
    pitch = store.feature("pitch")
    for channels in (("f1", "f2"), ("voiced", "f0"), ("hnr",), (), ("log_f0", "voiced")):
        pitch.spec = pitch.spec.model_copy(update={"channels": channels})
        assert expected in refused("streams.pitch.front=log_f0")
    assert load_examples(store, load(TrainConfig, [], ["fusion=none"])).names


def with_feature(path, name, values, **spec):
    """Add a feature to a store, the same frames for every utterance."""
    writer = StoreWriter(path)
    count = len(featurestore.open(path).utterances)
    layers, frames, dim = values.shape
    with writer.lock():
        spec = FeatureSpec(layers=layers, dim=dim, dtype="float32", **spec)
        writer.plan_feature(name, FeaturePlan(spec, np.full(count, frames), np.full(count, 0.01)))
        for number in writer.pending(name):
            with writer.shard(name, number) as shard:
                for utterance in shard.names:
                    shard.add(utterance, values)
        writer.commit(name)
    return featurestore.open(path)


def test_f0_that_is_none(copied, tmp_path):
    values = np.tile(np.float32([-1, 1]), (1, 20, 1))
    store = with_feature(copied, "odd", values, hop=0.01, channels=("f0", "voiced"))
    with pytest.raises(SerError, match=r"f0 in odd of 96 utterances \(u000, u001, u002, …\) is negative or not finite"):
        run(store, load(TrainConfig, [], [*QUICK, "streams.pitch.feature=odd", f"runs={tmp_path}"]), lambda _: None)


def test_states_without_a_clock_are_warned_of(copied, tmp_path):
    store = with_feature(copied, "words", np.random.default_rng(0).normal(size=(2, 3, 4)).astype("f4"), hop=0.0)
    settings = [*QUICK, "streams.speech.feature=words", "fusion=none", f"runs={tmp_path}"]
    _, results = run(store, load(TrainConfig, [], settings), lambda _: None)
    assert results["warnings"] == ["words has no clock: a frame is a token, or the whole utterance"]


@pytest.mark.parametrize("part", ["train", "dev", "test"])
@pytest.mark.parametrize("array", ["scale", "offset"])
def test_damaged_states_are_noticed_in_every_part(copied, tmp_path, part, array):
    """A bit of the exponent, so that a value is wrong by a factor of 2 ** 64 or more."""
    store = featurestore.open(copied)
    name = store.utterances.index[store.utterances["split"] == part][5]
    row = store.index[name]
    place = place_of(store, "states", array, int(store.index.shard[row]))
    shape = np.frombuffer(place.read()[: place.size // 4 * 4], "<f4")
    values = store.feature("states").read(name)
    wanted = getattr(values, array).ravel()[3]
    place.flip(4 * int(np.flatnonzero(shape == wanted)[0]) + 3)
    settings = [*QUICK, "splits=given", f"runs={tmp_path / 'runs'}", "fusion=none"]
    with pytest.raises(SerError, match=f"states of {name} is not what was written: run ser-store verify"):
        run(featurestore.open(copied), load(TrainConfig, [], settings), lambda _: None)


def damage_statistics(store):
    place = place_of(store, "states", "sd", 0)
    content = bytearray(place.file.read_bytes())
    content[place.begin : place.begin + 4] = np.float32(np.nan).tobytes()
    place.file.write_bytes(bytes(content))


def test_damaged_statistics_are_noticed(copied):
    damage_statistics(featurestore.open(copied))
    with pytest.raises(SerError, match=r"states of 1 utterance .* is not finite: it is damaged"):
        Inspection().survey(load_examples(featurestore.open(copied), load(TrainConfig)))


def test_features_are_looked_at_once_for_all_variants_that_hear_them(copied):
    inspection, store = Inspection(), featurestore.open(copied)
    assert inspection.survey(load_examples(store, load(TrainConfig))) == []
    damage_statistics(store)
    assert inspection.survey(load_examples(featurestore.open(copied), load(TrainConfig, [], ["loss=mse"]))) == []
    with pytest.raises(SerError, match="is damaged"):
        inspection.survey(load_examples(featurestore.open(copied), load(TrainConfig, [], ["streams.speech.layers=1"])))


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "int8", "int4"])
def test_no_data_type_looks_damaged(copied, tmp_path, dtype):
    source = featurestore.open(copied)
    copy_stores([source], tmp_path / "other.zarr", features=(), dtype=dtype, compress=None, report=lambda *_: None)
    examples = load_examples(featurestore.open(tmp_path / "other.zarr"), load(TrainConfig))
    assert Inspection().survey(examples) == []
    assert sum(len(batch.rows) for batch in examples.batches(np.split(np.arange(96), 8))) == 96


def test_skipped_utterances_are_grouped(store, changed, tmp_path):
    store.utterances.iloc[:50, store.utterances.columns.get_loc("V")] = np.nan
    store.utterances.loc["u090", "A"] = np.nan
    store = changed(store.utterances)
    lines = []
    config = load(TrainConfig, [], [*QUICK, f"runs={tmp_path}"])
    folder, _ = run(store, config, lines.append)
    assert [line for line in lines if line.startswith("skipped")] == [
        "skipped: 50 utterances (u000, u001, u002, …): no label V; all of their names are in metrics.json",
        "skipped: 1 utterance (u090): no label A; all of their names are in metrics.json",
    ]
    assert len(json.loads((folder / "metrics.json").read_text())["skipped"]) == 51
    assert grouped([]) == []


def test_labels_put_in_later_are_checked(copied, commands, tmp_path):
    (tmp_path / "labels.csv").write_text("name,V\nu001,99\nu002,inf\n")
    words = ["add-labels", copied, tmp_path / "labels.csv", "--replace"]
    assert ser_store(*words).returncode == 0
    result = commands.run("--store", copied, *QUICK, f"runs={tmp_path}")
    assert result.returncode == 1
    assert "label V of 2 utterances (u001, u002) is outside its scale, 1 to 5, e.g. 99" in result.stderr


def test_odd_and_many_names_of_emotions_can_be_plotted(store, changed, tmp_path):
    store.utterances["emotion"] = ["$\\frac{$", "\u559c", "a\x1b[31mb", "x" * 200] * 24
    config = load(TrainConfig, [], [*QUICK, *CATEGORIES, "plots=true", f"runs={tmp_path}"])
    folder, _ = run(changed(store.utterances), config, lambda _: None)
    assert (folder / "plots/confusion_emotion.png").exists()
    plot_confusion(tmp_path, "many", [str(n) for n in range(100)], np.eye(100, dtype=int))
    assert (tmp_path / "confusion_many.png").exists()


def test_pitch_without_a_voice_is_warned_of(copied, tmp_path):
    store = with_feature(copied, "flat", np.zeros((1, 20, 2), np.float32), hop=0.01, channels=("f0", "voiced"))
    config = load(TrainConfig, [], [*QUICK, "streams.pitch.feature=flat", f"runs={tmp_path}"])
    _, results = run(store, config, lambda _: None)
    assert results["warnings"] == ["no frame of flat is voiced: the fusion has nothing to work with"]
