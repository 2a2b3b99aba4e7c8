"""Statistics over a corpus, against numpy on everything at once."""

import numpy as np
import pytest

import featurestore
from featurestore.access import statistics
from featurestore.shared.errors import StoreError


@pytest.fixture
def small_blocks(monkeypatch):
    for name in ("BLOCK_FRAMES", "POOLED_FRAMES"):
        monkeypatch.setattr(statistics, name, 30)  # several blocks even here


@pytest.mark.parametrize("feature", ["states", "float16", "int4", "pitch"])
@pytest.mark.usefixtures("small_blocks")
def test_dask_sees_all_frames(toy, written, feature):
    store = featurestore.open(written)
    array = store.to_dask(feature)
    whole = np.concatenate([store[name][feature] for name in store.names([feature])], axis=1)
    assert array.shape == whole.shape
    assert array.numblocks[1] > 2
    assert np.array_equal(array.compute(scheduler="synchronous"), whole)
    assert np.allclose(array.mean(axis=1).compute(), whole.mean(axis=1), rtol=1e-4)


@pytest.mark.usefixtures("small_blocks")
def test_corpus_statistics_are_those_of_all_frames(toy, written):
    store = featurestore.open(written)
    names = ["c2", "a1", "b1", "a/3"]
    mean, sd = statistics.corpus_statistics(store.feature("float32"), names)
    whole = np.concatenate([toy.states[name] for name in names], axis=1).astype(float)
    assert np.allclose(mean, whole.mean(axis=1), rtol=1e-6, atol=1e-6)
    assert np.allclose(sd, whole.std(axis=1), rtol=1e-6)


def test_some_utterance_is_needed(written):
    store = featurestore.open(written)
    with pytest.raises(StoreError, match="found no utterance, expected one or more to read states of"):
        statistics.corpus_statistics(store.feature("states"), [])
    with pytest.raises(StoreError, match="b2 has no states"):
        store.to_dask("states", ["a1", "b2"])
