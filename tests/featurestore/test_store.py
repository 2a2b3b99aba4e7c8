"""Reading a store: by name, by layer, from other processes, finished or not; on both backends."""

import pickle
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context

import numpy as np
import pandas as pd
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

import featurestore
from featurestore.access.writer import StoreWriter
from featurestore.format.codec import pad
from featurestore.format.index import Index
from featurestore.format.opening import open_backend, open_backend_to_write
from featurestore.format.table import write_table
from featurestore.shared.errors import StoreError, UnknownUtteranceError
from tests.featurestore.toy import DTYPES, FAILED, FRAMES, HOP, tampered

BOUND = {"float32": 0.0, "float16": 2.0**-11, "bfloat16": 2.0**-8, "int8": 1 / 255, "int4": 1 / 15}
"""Largest error, as a share of the largest absolute value of the channel."""


def states(store, name, feature):
    return store[name][feature]


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_utterance_comes_back(toy, written, dtype):
    store = featurestore.open(written)
    for name in toy.readable:
        expected = toy.states[name]
        scale = np.abs(expected).max(axis=1, keepdims=True)
        found = store[name][dtype]
        assert found.dtype == np.float32
        assert (np.abs(found - expected) <= BOUND[dtype] * scale + 1e-6).all()


LAYERS = [None, 0, -3, 1, -1, [1], (2, 0), [0, 0, -1], np.array([2, 1]), np.int64(1)]
SLICES = [slice(1, 3), slice(-2, None), slice(0, 9), slice(None, None, 2), slice(None, None, -1), slice(2, 0, -1)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layers", [*LAYERS, *SLICES, slice(1, 1), slice(5, 9)], ids=str)
def test_layers_are_those_of_numpy(written, dtype, layers):
    utterance = featurestore.open(written)["a/3"]
    index = list(layers) if isinstance(layers, tuple) else slice(None) if layers is None else layers
    assert np.array_equal(utterance[dtype, layers], utterance[dtype][index])


def test_a_mask_chooses_layers(written):
    utterance = featurestore.open(written)["a/3"]
    mask = np.array([False, True, True])
    assert np.array_equal(utterance["states", mask], utterance["states"][mask])
    for wrong in ([1.9], [True, False], [[0, 1]]):
        with pytest.raises(IndexError, match="expected numbers, a slice, or one truth value for each of the 3 layers"):
            _ = utterance["states", wrong]


@pytest.mark.parametrize("layers", [3, -4, [0, 3]], ids=str)
def test_layers_that_are_not_there_are_refused(written, layers):
    with pytest.raises(IndexError, match="one or more of the layers 0 to 2"):
        featurestore.open(written)["a/3"]["states", layers]


def test_a_batch_is_ragged_and_in_the_order_asked_for(written):
    store = featurestore.open(written)
    names = ["c3", "a1", "ä 4"]
    batch = store.read(names, ["float16", "int8"], {"int8": [1]})
    for i, name in enumerate(names):
        assert np.array_equal(batch["float16"][i].decode(), store[name]["float16"])
        assert np.array_equal(batch["int8"][i].decode(), store[name]["int8", [1]])


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_padded_batch_decodes_to_the_same_values_and_zeros_only_where_there_is_nothing(written, dtype):
    store = featurestore.open(written)
    names = ["c3", "b1", "ä 4"]
    padded = pad(store.read(names, [dtype])[dtype])
    assert padded.values.shape[:3] == (3, 3, 48)
    for row, name in enumerate(names):
        alone = store[name][dtype]
        assert np.array_equal(padded.decode()[row][:, : alone.shape[1]], alone)
        assert not padded.values[row][:, alone.shape[1] :].any()


def test_what_is_read_are_views_of_the_file(written):
    frames = featurestore.open(written).feature("float16").read("b1")
    assert not frames.values.flags.owndata
    assert not frames.values.flags.writeable


@pytest.mark.parametrize("dtype", DTYPES)
def test_pooled_statistics_are_those_of_what_was_written(toy, written, dtype):
    mean, sd = featurestore.open(written).feature(dtype).pooled(["a2", "c2"])
    for i, name in enumerate(["a2", "c2"]):
        assert np.allclose(mean[i], toy.states[name].mean(axis=1), rtol=1e-5, atol=1e-5)
        assert np.allclose(sd[i], toy.states[name].std(axis=1), rtol=1e-5, atol=1e-5)


def test_times_are_in_seconds(written):
    times = featurestore.open(written).feature("states").times("a1")
    assert len(times) == FRAMES["a1"]
    assert times[:2].tolist() == pytest.approx([0.0125, 0.0125 + HOP])


def test_a_feature_without_a_clock_has_frames_but_no_times(toy, suffix, tmp_path):
    part = featurestore.open(toy.write(tmp_path / f"toy{suffix}", hop=0.0)).feature("states")
    assert part.read("a1").decode().shape[1] == part.frames("a1") == FRAMES["a1"]
    with pytest.raises(StoreError, match=r"states has no clock: .* the feature words has the times of their words"):
        part.times("a1")
    with pytest.raises(ValidationError, match="greater than or equal to 0"):
        toy.feature_plan(hop=-0.02)


def test_a_store_says_what_it_is(written):
    text = repr(featurestore.open(written))
    assert text.startswith(f"Store({written}: toy; ")
    assert all(dtype in text for dtype in DTYPES)


def test_the_table(toy, written):
    store = featurestore.open(written)
    assert store.utterances["speaker"].tolist() == [name[0] for name in FRAMES]
    assert np.array_equal(store.utterances["V"], toy.table["V"])
    assert store["ä 4"].labels["V"] == store.utterances.loc["ä 4", "V"]
    assert (store.dataset, store.ranges) == ("toy", {"V": (1.0, 5.0)})


def test_what_is_missing_has_its_reason(written):
    store = featurestore.open(written)
    assert store.left_out == {"d1": "no audio file d1.wav"}
    assert store.feature("states").failed == FAILED
    assert "b2" not in store.names(["states"])
    with pytest.raises(StoreError, match="b2 has no states: the encoder ran out of memory"):
        store["b2"]["states"]
    with pytest.raises(KeyError, match=r"no utterance 'a11'.*did you mean 'a1'"):
        store["a11"]
    with pytest.raises(KeyError, match="no utterance 'a11'"):
        store.read(["a1", "a11"], ["states"])
    for name in ("", "\udcff", 5):
        with pytest.raises(KeyError, match=f"no utterance {name!r}" if name != "\udcff" else "no utterance"):
            store[name]
    with pytest.raises(StoreError, match="no feature 'stats'; did you mean 'states'"):
        store["a1"]["stats"]


@pytest.mark.parametrize("name", ["nowhere.zarr", "nowhere.h5", "nowhere.hdf5", "nowhere"])
def test_no_store_there(tmp_path, name):
    with pytest.raises(StoreError, match=f"no store at .*{name}; ser-extract makes one"):
        featurestore.open(tmp_path / name)


def test_a_suffix_that_is_no_form_is_refused(tmp_path):
    with pytest.raises(StoreError, match=r"ends in '.npz'; expected one of .zarr, .h5, .hdf5"):
        featurestore.open(tmp_path / "store.npz")


def test_something_else_is_not_a_store(tmp_path):
    zarr.create_group(tmp_path / "other.zarr")
    with pytest.raises(StoreError, match=r"other.zarr is not a store that ser-extract has made"):
        featurestore.open(tmp_path / "other.zarr")
    (tmp_path / "other.h5").write_bytes(b"not HDF5 at all" * 100)
    with pytest.raises(StoreError, match=r"other.h5 is damaged, or not an HDF5 file"):
        featurestore.open(tmp_path / "other.h5")


@pytest.mark.parametrize(("version", "hint"), [(99, "update ser-featurestore"), (1, "extract it again")])
def test_a_store_of_another_version_is_refused(copied, version, hint):
    backend = open_backend(copied)
    with tampered(copied) as change:
        change.group("", {**backend.attributes(), "format": version})
    with pytest.raises(StoreError, match=f"has the format {version}, this version reads 2: {hint}"):
        featurestore.open(copied)


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_other_processes_read_the_same(written, context):
    store = featurestore.open(written)
    expected = store["b1"]["states"]  # opens a file, which must not travel
    with ProcessPoolExecutor(1, get_context(context)) as pool:
        assert np.array_equal(pool.submit(states, store, "b1", "states").result(), expected)
        assert np.array_equal(pool.submit(states, store, "c1", "int4").result(), store["c1"]["int4"])


def test_a_store_that_has_been_read_is_pickled_small(written):
    store = featurestore.open(written)
    for name in store.names(["float32"]):
        _ = store[name]["float32"]
    assert len(pickle.dumps(store)) < 60_000


def test_many_shards_need_few_open_files(toy, tmp_path, suffix, monkeypatch):
    path = tmp_path / f"toy{suffix}"
    toy.write(path)
    store = featurestore.open(path)
    store.backend.files._most = 2
    for _ in range(3):
        for name in toy.readable:
            assert store[name]["states"].shape[1] == FRAMES[name]
    assert len(store.backend.files._open) <= 2


def test_an_unfinished_feature_says_so(toy, tmp_path, suffix):
    path = toy.write(tmp_path / f"toy{suffix}", shards=[0])
    store = featurestore.open(path)
    assert store.features == {}
    with pytest.raises(StoreError, match=r"states in .* is unfinished \(1 of 3 shards\): run the same ser-extract"):
        store.feature("states")
    partial = featurestore.open(path, partial=True)
    assert partial.names(["states"]) == ["a1", "a2", "a/3", "ä 4"]
    assert np.allclose(partial["a1"]["states"], toy.states["a1"], atol=1)
    with pytest.raises(StoreError, match="not extracted yet"):
        _ = partial["c1"]["states"]
    with pytest.raises(StoreError, match=r"shards \[1, 2\] are missing"):
        StoreWriter(path).commit("states")


def test_a_changed_store_under_a_writer_is_seen_when_it_is_opened_again(toy, tmp_path, suffix):
    path = toy.write(tmp_path / f"toy{suffix}", shards=[0])
    reader = featurestore.open(path, partial=True)
    assert len(reader.names(["states"])) == 4
    toy.write(path)
    assert len(featurestore.open(path).names(["states"])) == 8


@pytest.mark.parametrize("compress", [None, "zstd"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_compressed_frames_are_the_same(toy, tmp_path, written, dtype, compress):
    path = toy.write(tmp_path / "packed.zarr", dtype, compress=compress)
    mine, theirs = featurestore.open(path), featurestore.open(written)
    for name in toy.readable:
        for layers in (slice(None), 1, [2, 0]):
            assert np.array_equal(mine[name]["states", layers], theirs[name][dtype, layers])
    assert mine.features["states"].compress == compress
    for batch in mine.batches(toy.readable, ["states"], frames=100, seed=0):
        for name, frames in zip(batch.names, batch.frames["states"], strict=True):
            assert np.array_equal(frames.decode(), mine[name]["states"])


def test_hdf5_refuses_compression_and_leaves_nothing(toy, tmp_path):
    with pytest.raises(StoreError, match=r"give a path that ends in .zarr"):
        toy.write(tmp_path / "toy.h5", compress="zstd")
    assert featurestore.open(tmp_path / "toy.h5").parts == {}


def test_an_utterance_without_frames_has_its_reason(toy, tmp_path, suffix):
    path = tmp_path / f"toy{suffix}"
    writer = StoreWriter(path)
    plan = toy.feature_plan()
    frames = plan.frames.copy()
    frames[toy.names.index("c1")] = 0
    with writer.lock():
        writer.plan(toy.plan)
        writer.plan_feature("states", replace(plan, frames=frames))
        for number in writer.pending("states"):
            with writer.shard("states", number) as shard:
                for name in shard.names:
                    if name == "c1":
                        shard.fail(name, "too long for the encoder")
                    else:
                        shard.add(name, toy.states[name])
        writer.commit("states")
    store = featurestore.open(path)
    assert store.feature("states").failed == {"c1": "too long for the encoder"}
    assert np.allclose(store["c2"]["states"], toy.states["c2"], atol=2)


@given(st.lists(st.text("ab_é", min_size=1, max_size=4), min_size=1, max_size=30, unique=True), st.data())
def test_names_are_found_by_search_and_by_index(tmp_path_factory, names, data):
    """Names that are parts of others, or of two that are neighbours."""
    backend = open_backend_to_write(tmp_path_factory.mktemp("names") / "s.zarr")
    with backend.change() as change:
        write_table(change, pd.DataFrame({"shard": np.zeros(len(names), np.int64)}, index=pd.Index(names, name="name")))
        change.group("", {})
    index = Index(backend)
    for name in data.draw(st.permutations([*names, *names, *names])):
        assert index[name] == names.index(name)
    absent = data.draw(st.text("ab_é", min_size=1, max_size=4).filter(lambda name: name not in names))
    for fresh in (index, Index(backend)):
        with pytest.raises(UnknownUtteranceError, match="no utterance"):
            fresh[absent]


def test_a_store_that_is_open_when_python_ends_does_not_crash_it(toy, tmp_path, suffix, environment):
    """Nothing clears away what is frozen; HDF5 closes its files after Python has ended."""
    path = toy.write(tmp_path / f"toy{suffix}")
    code = "import featurestore, gc, sys; sys.kept = featurestore.open(sys.argv[1]); sys.kept['a1']['states']"
    code += "; sys.kept.itself = sys.kept; gc.freeze()"
    subprocess.run([sys.executable, "-c", code, path], env=environment, check=True)
