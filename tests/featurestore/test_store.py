"""Reading a store: by name, by layer, from other processes, through other readers, finished or not."""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest
import zarr

import featurestore
from featurestore.errors import StoreError
from featurestore.writer import StoreWriter
from featurestore.zarr3 import read_json, write_json

DTYPES = ("float32", "float16", "int8")
BOUND = {"float32": 0.0, "float16": 2.0**-11, "int8": 1 / 255}
"""Largest error, as a share of the largest value of the channel."""


def states(store, name, dtype):
    return store[name][dtype]


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_utterance_comes_back(written, dtype):
    store = featurestore.open(written.path)
    for name in store.names([dtype]):
        expected = written.values[name]
        scale = np.abs(expected).max(axis=1, keepdims=True)
        assert (np.abs(store[name][dtype] - expected) <= BOUND[dtype] * scale + 1e-6).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layers", [slice(1, 3), slice(None, None, 2), [2, 0], [-1], 1, -1])
def test_layers_are_those_of_the_whole(written, dtype, layers):
    store = featurestore.open(written.path)
    assert np.array_equal(store["utt_3"][dtype, layers], store["utt_3"][dtype][layers])


def test_a_layer_that_is_not_there(written):
    with pytest.raises(IndexError, match="numbered 0 to 2"):
        featurestore.open(written.path)["utt_3"]["int8", 3]


def test_a_batch_is_ragged_and_in_the_order_asked_for(written):
    store = featurestore.open(written.path)
    names = ["utt_5", "utt_0", "utt_11"]
    batch = store.read(names, ["float16", "int8"], {"int8": [1]})
    for i, name in enumerate(names):
        assert np.array_equal(batch["float16"][i].decode(), store[name]["float16"])
        assert np.array_equal(batch["int8"][i].decode(), store[name]["int8", [1]])


@pytest.mark.parametrize("dtype", DTYPES)
def test_pooled_statistics_are_those_of_what_was_written(written, dtype):
    mean, sd = featurestore.open(written.path).feature(dtype).pooled(["utt_2", "utt_9"])
    for i, name in enumerate(["utt_2", "utt_9"]):
        assert np.allclose(mean[i], written.values[name].mean(axis=1), rtol=1e-5, atol=1e-5)
        assert np.allclose(sd[i], written.values[name].std(axis=1), rtol=1e-5, atol=1e-5)


def test_times_are_in_seconds(written):
    times = featurestore.open(written.path).feature("int8").times("utt_0")
    assert len(times) == written.frames[0]
    assert times[:2].tolist() == pytest.approx([0.0125, 0.0325])


def test_the_table(written):
    store = featurestore.open(written.path)
    assert store.utterances["speaker"].iloc[1] == "spk 1 é"
    assert np.array_equal(store.utterances["V"], written.plan.table["V"])
    assert store["utt_1"].labels["V"] == store.utterances.loc["utt_1", "V"]
    assert (store.dataset, store.ranges) == ("toy", {"V": (1.0, 5.0)})


def test_what_is_missing_has_its_reason(written):
    store = featurestore.open(written.path)
    assert store.left_out == {"gone": "no audio file gone.wav"}
    assert store.feature("int8").failed == {"utt_7": "3 of 100 samples are NaN or infinite"}
    assert "utt_7" not in store.names(["int8"])
    with pytest.raises(StoreError, match="utt_7 has no int8: 3 of 100 samples are NaN"):
        store["utt_7"]["int8"]
    with pytest.raises(KeyError, match="did you mean 'utt_1"):
        store["utt_1x"]
    with pytest.raises(StoreError, match="no feature 'in8'; did you mean 'int8'"):
        store["utt_1"]["in8"]
    with pytest.raises(StoreError, match="no store at"):
        featurestore.open(written.path / "nothing")


@pytest.mark.parametrize("dtype", DTYPES)
def test_zarr_python_sees_layer_frame_dim(written, dtype):
    store, group = featurestore.open(written.path), zarr.open_group(written.path, mode="r")[f"features/{dtype}"]
    start, frames, slots = group["start"][:], group["frames"][:], store.utterances["slot"]
    for row, name in enumerate(store.utterances.index):
        if name in store.feature(dtype).failed:
            continue
        seen = group["data"][:, start[row] : start[row] + frames[row]].astype(np.float32)
        if dtype == "int8":
            scale, offset = (group[a][:, slots[name]][:, None] for a in ("scale", "offset"))
            seen = seen * scale + offset
        assert np.array_equal(seen, store[name][dtype])
        assert np.array_equal(group["mean"][:, slots[name]], store.feature(dtype).pooled([name])[0][0])


def test_other_processes_read_the_same(written):
    store = featurestore.open(written.path)
    expected = store["utt_4"]["int8"]  # maps a shard, which must not travel
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        assert np.array_equal(pool.submit(states, store, "utt_4", "int8").result(), expected)


def test_an_unfinished_feature_says_so(fresh):
    (fresh.path / "features/int8/manifest.json").unlink()
    (fresh.path / "features/int8/shards/1.json").unlink()
    store = featurestore.open(fresh.path)
    assert store.features == {}
    with pytest.raises(StoreError, match=r"int8 in .* is unfinished \(\d of \d shards\): run the same ser-extract"):
        store.feature("int8")
    partial = featurestore.open(fresh.path, partial=True)
    there = partial.names(["int8"])
    assert 0 < len(there) < 11
    assert np.allclose(partial[there[0]]["int8"], fresh.values[there[0]], atol=2)
    missing = next(n for n, shard in partial.utterances["shard"].items() if shard == 1)
    with pytest.raises(StoreError, match="not extracted yet"):
        partial[missing]["int8"]
    with pytest.raises(StoreError, match=r"shards \[1\] are missing"):
        StoreWriter(fresh.path).commit("int8")


def test_a_store_from_a_newer_version_is_refused(fresh):
    document = read_json(fresh.path / "zarr.json")
    document["attributes"]["format"] = 99
    write_json(fresh.path / "zarr.json", document)
    with pytest.raises(StoreError, match="has the format 99, this version reads up to 1: update"):
        featurestore.open(fresh.path)
