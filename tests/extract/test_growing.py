"""Planned before anything runs, in less room, in either form, and grown by further utterances and datasets."""

import re

import numpy as np
import pytest
import soundfile

import featurestore
from extract.config import ExtractConfig
from extract.features.encoder import mean_over_time
from extract.run import extract
from featurestore.format.layout import feature_bytes
from featurestore.operations.repair import repair
from featurestore.operations.verify import verify
from featurestore.shared.config import load
from featurestore.shared.errors import SerError, StoreError
from tests.extract.samples import ser_extract

ENCODER = "hubert-tiny-untrained"


def asked(root, store, *overrides, features="pitch", dataset="csv"):
    named = [f"{feature}={{}}" for feature in features.split(",") if feature and feature != "encoder"]
    named += [f"encoder.checkpoint={ENCODER}"] if "encoder" in features else []
    return load(ExtractConfig, [], [f"dataset={dataset}", f"dataset.root={root}", f"store={store}", *named, *overrides])


def files(path):
    return {str(f.relative_to(path)): f.read_bytes() for f in path.rglob("*") if f.is_file()}


def test_the_plan_says_what_would_be_done_and_writes_nothing(labelled, tmp_path):
    with labelled.open("a") as file:
        file.write("gone,gone.wav,3,3,train,s0,\n")
    before = files(tmp_path)
    base = ("--dataset", "csv", "--root", labelled, "--encoder", ENCODER, "--store", tmp_path / "s.zarr")
    result = ser_extract(*base, "--features", "pitch", "--plan")
    assert result.returncode == 3, result.stderr
    assert files(tmp_path) == before
    assert "left out: gone: no audio file" in result.stdout
    assert re.search(
        r"dataset csv: 4 utterances, 0\.00 h \(0\.\d\d to \d\.\d\d s\), 4 speakers, .*; 1 left", result.stdout
    )
    assert re.search(rf"{ENCODER} +5 +\d+ +0\.02 +\d+  int8( +\d+\.\d MB){{5}}", result.stdout)
    assert re.search(
        r"s\.zarr does not exist yet; the whole takes \d+\.\d MB in 1 shards, free \d+\.\d\d GB", result.stdout
    )
    assert re.search(rf"time: about \d+ s \({ENCODER} \d+ s, pitch \d+ s\)", result.stdout)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "int8", "int4"])
def test_the_planned_bytes_are_those_on_the_disk(labelled, tmp_path, dtype):
    config = asked(labelled, tmp_path / "s.zarr", f"encoder.dtype={dtype}", features="encoder")
    extract(config)
    part = featurestore.open(tmp_path / "s.zarr").feature(ENCODER)
    planned = feature_bytes(part.spec, part.lengths)
    assert planned == pytest.approx(part.size, rel=0.02)


def test_a_disk_without_room_is_refused_before_a_shard_is_written(labelled, tmp_path, monkeypatch):
    monkeypatch.setattr("extract.planning.free_bytes", lambda _: 1000)
    with pytest.raises(StoreError, match=r"needs 5.2 kB, its disk has 1.0 kB free: .* check_disk=false"):
        extract(asked(labelled, tmp_path / "s.zarr"))
    assert featurestore.open(tmp_path / "s.zarr", partial=True).parts["pitch"].records == {}
    extract(asked(labelled, tmp_path / "s.zarr", "check_disk=false"))
    assert list(featurestore.open(tmp_path / "s.zarr").features) == ["pitch"]


def test_both_forms_hold_the_same(labelled, tmp_path):
    for suffix in (".zarr", ".h5"):
        extract(asked(labelled, tmp_path / f"s{suffix}", features="pitch,encoder"))
    one, other = (featurestore.open(tmp_path / f"s{suffix}") for suffix in (".zarr", ".h5"))
    for name in one.names():
        for feature in ("pitch", ENCODER):
            assert np.array_equal(one[name][feature], other[name][feature])


def test_some_layers_and_pooled_frames(labelled, tmp_path):
    whole, less = tmp_path / "whole.zarr", tmp_path / "less.zarr"
    extract(asked(labelled, whole, "encoder.dtype=float32", features="encoder"))
    options = ("encoder.dtype=float32", "encoder.layers=[4,1]", "encoder.time_pool=3", "encoder.compress=zstd")
    extract(asked(labelled, less, *options, features="encoder"))
    one, other = featurestore.open(whole), featurestore.open(less)
    spec = other.features[ENCODER]
    assert (spec.layers, spec.hop, spec.compress) == (2, pytest.approx(0.06), "zstd")
    assert spec.provenance["settings"]["layers"] == [4, 1]
    assert spec.provenance["settings"]["time_pool"] == 3
    for name in one.names():
        frames = one[name][ENCODER, [4, 1]]
        count = frames.shape[1]
        expected = [frames[:, i : i + 3].mean(axis=1) for i in range(0, count, 3)]
        assert np.allclose(other[name][ENCODER], np.stack(expected, axis=1), atol=1e-5)
        times = one.feature(ENCODER).times(name)
        assert other.feature(ENCODER).times(name)[:2] == pytest.approx([times[:3].mean(), times[3:6].mean()])
    with pytest.raises(StoreError, match=r"time_pool: 3 in the store, 1 asked for"):
        extract(
            asked(
                labelled,
                less,
                "encoder.dtype=float32",
                "encoder.layers=[4,1]",
                "encoder.compress=zstd",
                features="encoder",
            )
        )


@pytest.mark.parametrize("layers", ["[5]", "[-1]", "[1,1]", "[]"])
def test_layers_that_the_encoder_does_not_have_are_refused(labelled, tmp_path, layers):
    with pytest.raises(SerError, match=f"expected one or more of the layers 0 to 4 of {ENCODER}, each once"):
        extract(asked(labelled, tmp_path / "s.zarr", f"encoder.layers={layers}", features="encoder"))


def test_pooling_keeps_the_last_frames():
    frames = np.arange(14, dtype=np.float32).reshape(2, 7, 1)
    assert mean_over_time(frames, 3).squeeze(2).tolist() == [[1, 4, 6], [8, 11, 13]]
    assert mean_over_time(frames, 9).squeeze(2).tolist() == [[3], [10]]


@pytest.mark.parametrize("suffix", [".zarr", ".h5"])
def test_new_files_of_a_dataset_are_added(labelled, tmp_path, suffix):
    store = tmp_path / f"s{suffix}"
    extract(asked(labelled, store, features="pitch,encoder"))
    before = {name: featurestore.open(store)[name][ENCODER] for name in ("000", "003")}
    with labelled.open("a") as file:
        file.write("new,clip1.wav,3,3,train,s9,\n")
    with pytest.raises(
        StoreError,
        match=r"1 utterances are new and 0 are gone, e\.g\. new; ser-extract adds the new ones with grow=true",
    ):
        extract(asked(labelled, store, features="pitch,encoder"))
    summary = extract(asked(labelled, store, "grow=true", features="pitch,encoder"))
    assert (summary.utterances, summary.failed, summary.unfinished) == (5, {}, [])
    grown = featurestore.open(store)
    assert grown.names([ENCODER, "pitch"]) == ["000", "001", "002", "003", "new"]
    assert np.allclose(grown["new"][ENCODER], grown["001"][ENCODER], atol=1e-3)
    assert all(np.array_equal(grown[name][ENCODER], frames) for name, frames in before.items())
    assert verify(grown) == []
    again = extract(asked(labelled, store, "grow=true", features="pitch,encoder"))
    assert again.utterances == 5


def test_another_dataset_is_added_and_a_feature_waits_for_both(labelled, emotale, tmp_path):
    store = tmp_path / "s.zarr"
    extract(asked(labelled, store, "dataset.ranges={V: [1, 5], A: [1, 5]}"))
    part = "dataset.allow_partial=true"
    extract(asked(emotale, store, "grow=true", part, dataset="emotale"))
    opened = featurestore.open(store)
    assert opened.dataset == "csv+emotale"
    assert opened.utterances["dataset"].value_counts().to_dict() == {"csv": 4, "emotale": 3}
    assert len(opened.names(["pitch"])) == 7
    first = extract(asked(labelled, store, features="encoder"))
    assert first.unfinished == [
        f"{ENCODER}: 1 shards hold utterances of emotale that were not asked for; extract these, too"
    ]
    assert list(featurestore.open(store).features) == ["pitch"]
    assert extract(asked(emotale, store, part, features="encoder", dataset="emotale")).unfinished == []
    assert len(featurestore.open(store).names([ENCODER])) == 7


def test_a_copy_that_comes_later_does_not_change_the_labels_of_what_is_there(labelled, tmp_path):
    store = tmp_path / "s.zarr"
    extract(asked(labelled, store))
    (tmp_path / "aaa.wav").write_bytes((tmp_path / "clip0.wav").read_bytes())
    lines = labelled.read_text().splitlines()
    labelled.write_text("\n".join([lines[0], lines[1].replace("000,clip0", "aaa,aaa"), *lines[1:]]) + "\n")
    summary = extract(asked(labelled, store, "grow=true"))
    assert summary.flagged == {"000": "the same audio as aaa"}
    assert len(featurestore.open(store).names(["pitch"])) == 5


def test_what_repair_dropped_is_extracted_again(labelled, tmp_path):
    config = asked(labelled, tmp_path / "s.zarr", "shard_seconds=1", features="pitch,encoder")
    extract(config)
    before = files(tmp_path / "s.zarr")
    shard = tmp_path / f"s.zarr/features/{ENCODER}/data/c/0/1/0"
    shard.write_bytes(shard.read_bytes()[:-3])
    (dropped,) = repair(str(tmp_path / "s.zarr"))
    assert dropped.names == ["001"]
    extract(config)
    assert files(tmp_path / "s.zarr") == before


def test_one_part_of_a_dataset_and_later_the_others(labelled, tmp_path):
    store = tmp_path / "s.zarr"
    extract(asked(labelled, store, "dataset.split=test"))
    assert featurestore.open(store).names(["pitch"]) == ["002"]
    options = ("--dataset", "csv", "--root", labelled, "--features", "pitch", "--store", store)
    forecast = ser_extract(*options, "--plan", "grow=true", "dataset.split=train")
    assert "s.zarr has 0 B of it" in forecast.stdout
    extract(asked(labelled, store, "grow=true"))
    grown, whole = featurestore.open(store), tmp_path / "whole.zarr"
    extract(asked(labelled, whole))
    assert sorted(grown.names(["pitch"])) == sorted(featurestore.open(whole).names(["pitch"]))
    assert np.array_equal(grown["001"]["pitch"], featurestore.open(whole)["001"]["pitch"])
    with pytest.raises(SerError, match="no utterance is in it; the dataset has the splits dev, test, train"):
        extract(asked(labelled, tmp_path / "other.zarr", "dataset.split=tset"))


@pytest.mark.parametrize("order", [("pitch", "encoder"), ("encoder", "pitch")])
def test_features_come_one_after_another_though_one_has_no_frames_of_an_utterance(labelled, tmp_path, order):
    soundfile.write(tmp_path / "short.wav", np.full(160, 0.1), 16_000)  # too short for the encoder alone
    with labelled.open("a") as file:
        file.write("short,short.wav,3,3,train,s0,\n")
    together, apart = tmp_path / "together.zarr", tmp_path / "apart.zarr"
    extract(asked(labelled, together, features="pitch,encoder"))
    for feature in order:
        extract(asked(labelled, apart, features=feature))
    assert files(apart) == files(together)
    assert list(featurestore.open(apart).feature(ENCODER).failed) == ["short"]
    result = ser_extract("--dataset", "csv", "--root", labelled, "--encoder", ENCODER, "--store", apart, "--plan")
    assert result.returncode == 3
    assert f"would fail: short ({ENCODER}): 10 ms is shorter than one frame" in result.stdout


def test_the_plan_says_what_the_extraction_says_of_a_store(labelled, tmp_path):
    base = ("--dataset", "csv", "--root", labelled, "--features", "pitch", "--store", tmp_path / "s.zarr")
    assert ser_extract(*base).returncode == 0
    before = files(tmp_path / "s.zarr")
    done = ser_extract(*base, "--plan")
    assert done.returncode == 0
    assert "time: none, nothing is left to do" in done.stdout
    more = ser_extract(*base, "--encoder", ENCODER, "--plan")
    assert re.search(rf"time: about .* \({ENCODER} \d+ s\)", more.stdout)
    for options in (["--plan"], []):
        refused = ser_extract(*base, "pitch.floor=90", *options)
        assert refused.returncode == 1
        assert "has the feature pitch with other settings" in refused.stderr
    assert files(tmp_path / "s.zarr") == before
