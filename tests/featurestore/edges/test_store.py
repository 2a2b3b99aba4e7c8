"""Reading layers the way numpy takes them, and stores that are not quite ours."""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest
import zarr

import featurestore
from featurestore.errors import StoreError


@pytest.mark.parametrize(
    "layers",
    [None, 0, -3, [1], (2, 0), [0, 0, -1], np.array([2, 1]), slice(-2, None), slice(0, 9), slice(None, None, 2)],
    ids=str,
)
def test_layers_are_those_of_numpy(written, layers):
    utterance = featurestore.open(written)["a/3"]
    index = list(layers) if isinstance(layers, tuple) else slice(None) if layers is None else layers
    assert np.array_equal(utterance["states", layers], utterance["states"][index])


@pytest.mark.parametrize("layers", [slice(None, None, -1), slice(2, 0, -1), slice(1, 1), slice(5, 9)], ids=str)
def test_reversed_and_empty_slices_are_those_of_numpy(written, layers):
    utterance = featurestore.open(written)["a/3"]
    assert np.array_equal(utterance["states", layers], utterance["states"][layers])


def test_a_numpy_integer_is_a_layer_number(written):
    utterance = featurestore.open(written)["a/3"]
    assert utterance["states", np.argmax([0, 1, 0])].shape == utterance["states", 1].shape


@pytest.mark.parametrize("layers", [3, -4, [0, 3], []], ids=str)
def test_layers_that_are_not_there_are_refused(written, layers):
    with pytest.raises(IndexError, match="numbered 0 to 2"):
        featurestore.open(written)["a/3"]["states", layers]


def test_an_unknown_name_in_a_batch_is_said(written):
    with pytest.raises(KeyError, match=r"no utterance 'a11'.*did you mean 'a1'"):
        featurestore.open(written).read(["a1", "a11"], ["states"])


def test_another_zarr_group_is_not_a_store(tmp_path):
    zarr.create_group(tmp_path / "other.zarr")
    with pytest.raises(StoreError, match="other"):
        featurestore.open(tmp_path / "other.zarr")


def test_a_feature_travels_to_another_process(toy, written):
    part = featurestore.open(written).feature("states")
    here = part.read("a1").decode()  # maps a shard, which must not travel
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        assert np.array_equal(pool.submit(part.read, "a1").result().decode(), here)
