"""The batch reader: an exact order, every utterance once, the values of the store, in any process."""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import featurestore
from featurestore.access.batch_order import batch_order
from featurestore.access.batches import read_ahead
from tests.processes import FRESH, ensure_server

lengths_of = st.lists(st.integers(1, 300), min_size=1, max_size=200)


@given(lengths_of, st.integers(1, 20), st.none() | st.integers(0, 9))
def test_batches_of_utterances_are_a_permutation(lengths, size, seed):
    batches = batch_order(lengths, utterances=size, seed=seed)
    assert sorted(np.concatenate(batches)) == list(range(len(lengths)))
    assert max(map(len, batches)) <= size


@given(lengths_of, st.integers(1, 2000), st.none() | st.integers(0, 9), st.booleans())
def test_batches_of_frames_are_a_permutation_within_the_budget(lengths, frames, seed, grouped):
    groups = np.arange(len(lengths)) // 7 if grouped else None
    batches = batch_order(lengths, frames=frames, seed=seed, groups=groups)
    assert sorted(np.concatenate(batches)) == list(range(len(lengths)))
    for batch in batches:
        longest = max(lengths[i] for i in batch)
        assert len(batch) == 1 or len(batch) * longest <= frames


@given(lengths_of, st.integers(1, 2000), st.integers(0, 9))
def test_the_order_depends_on_the_seed_alone(lengths, frames, seed):
    once, again = (batch_order(lengths, frames=frames, seed=seed) for _ in range(2))
    assert [batch.tolist() for batch in once] == [batch.tolist() for batch in again]


def test_another_seed_is_another_order():
    orders = [np.concatenate(batch_order([5] * 100, utterances=4, seed=seed)).tolist() for seed in (0, 1)]
    assert orders[0] != orders[1]


def test_golden_order():
    """The order is part of what makes a run reproducible: it must not change from version to version."""
    lengths = (np.arange(40) * 37) % 41 + 1
    order = [batch_order(lengths, seed=3, **size) for size in ({"utterances": 8}, {"frames": 160})]
    assert np.concatenate(order[0]).tolist()[:10] == [2, 12, 22, 32, 1, 11, 21, 31, 8, 18]
    assert np.concatenate(order[1]).tolist()[:10] == [0, 10, 20, 30, 9, 19, 29, 39, 8, 18]


def test_batches_hold_little_padding():
    lengths = np.random.default_rng(0).lognormal(5, 0.6, 5000).astype(int) + 1
    batches = batch_order(lengths, frames=8000, seed=0)
    padded = sum(len(batch) * lengths[batch].max() for batch in batches)
    assert padded / lengths.sum() < 1.3


def test_a_shard_local_shuffle_mixes_few_shards_at_a_time():
    groups = np.arange(2000) // 20  # 100 shards
    batches = batch_order([10] * 2000, utterances=10, seed=0, groups=groups)
    seen = list(dict.fromkeys(np.concatenate([groups[batch] for batch in batches]).tolist()))
    first_use = {group: i for i, group in enumerate(seen)}
    windows = [sorted(first_use[group] // 8 for group in set(groups[batch].tolist())) for batch in batches]
    assert all(window[0] == window[-1] for window in windows)
    assert seen != sorted(seen)


@pytest.mark.parametrize("sizes", [{}, {"frames": 10, "utterances": 2}])
def test_one_size_is_needed(written, sizes):
    with pytest.raises(ValueError, match="expected one of frames and utterances"):
        featurestore.open(written).batches(["a1"], ["states"], **sizes)


@pytest.mark.parametrize("how", [{"copy": True}, {"copy": False}, {"cached": False}], ids=str)
@pytest.mark.parametrize("layers", [None, [1], slice(0, 2), [2, 0]], ids=str)
def test_batches_hold_what_the_store_holds(toy, written, how, layers):
    store = featurestore.open(written)
    names = []
    chosen = {} if layers is None else {"states": layers, "int4": layers}
    for batch in store.batches(toy.readable, ["states", "int4"], frames=60, seed=0, layers=chosen, **how):
        names += batch.names
        for feature in ("states", "int4"):
            for name, frames in zip(batch.names, batch.frames[feature], strict=True):
                assert np.array_equal(frames.decode(), store[name][feature, layers])
    assert sorted(names) == sorted(toy.readable)


@pytest.mark.parametrize("shuffle", ["all", "shards"])
def test_two_readers_with_one_seed_agree(toy, written, shuffle):
    store = featurestore.open(written)
    orders = [
        [b.names for b in store.batches(toy.readable, ["states"], utterances=3, seed=5, shuffle=shuffle, threads=t)]
        for t in (1, 3)
    ]
    assert orders[0] == orders[1]


def test_no_utterance_is_no_batch_and_no_feature_is_an_error(written):
    store = featurestore.open(written)
    assert list(store.batches([], ["states"], frames=10, seed=0)) == []
    with pytest.raises(ValueError, match="found no feature to read"):
        store.batches(["a1"], [], frames=10)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"utterances": -1}, "expected a batch of 1 or more"),
        ({"utterances": 0}, "expected a batch of 1 or more"),
        ({"frames": -5}, "expected a batch of 1 or more"),
        ({"frames": float("nan")}, "expected a batch of 1 or more"),
        ({"utterances": 2, "shuffle": "Shard"}, "expected shuffle to be one of all, shards, found 'Shard'"),
        ({"utterances": 2, "threads": 0}, "expected 1 thread or more, found 0"),
        ({"utterances": 2, "layers": {"state": [0]}}, r"layers of 'state', which is not among .*states"),
    ],
)
def test_odd_arguments_are_errors(written, how, message):
    with pytest.raises(ValueError, match=message):
        list(featurestore.open(written).batches(["a1"], ["states"], **how))


def read_in_child(store, names, dtype, wanted):
    batches = store.batches(names, [dtype], utterances=1)
    return [np.array_equal(batch.frames[dtype][0].values, wanted[batch.names[0]]) for batch in batches]


def test_buffers_of_forked_processes_are_their_own(toy, written):
    store = featurestore.open(written)
    list(store.batches(toy.readable, ["float32"], utterances=1))  # leaves a free buffer behind
    with ProcessPoolExecutor(2, get_context("fork")) as pool:
        jobs = [pool.submit(read_in_child, store, toy.readable, "float32", toy.states) for _ in range(8)]
        assert all(all(job.result()) for job in jobs)


def test_what_is_kept_of_a_batch_stays_as_it_was(toy, written):
    """Buffers are used again, but never while something refers to them."""
    store = featurestore.open(written)
    kept = {}
    for _ in range(5):
        for batch in store.batches(toy.readable, ["float32"], utterances=2, seed=1):
            kept |= {name: frames.values for name, frames in zip(batch.names, batch.frames["float32"], strict=True)}
    for name in toy.readable:
        assert np.array_equal(kept[name], toy.states[name])


def test_collate_is_applied_in_order(toy, written):
    store = featurestore.open(written)
    sizes = list(store.batches(toy.readable, ["states"], utterances=3, collate=lambda batch: len(batch.names)))
    assert sizes == [3, 3, 2]


def test_an_utterance_without_the_feature_is_said(written):
    with pytest.raises(featurestore.shared.errors.StoreError, match="b2 has no states"):
        list(featurestore.open(written).batches(["a1", "b2"], ["states"], frames=100))


def test_reading_ahead_ends_when_the_consumer_does(toy, written):
    store = featurestore.open(written)
    batches = store.batches(toy.readable, ["states"], utterances=1)
    next(batches)
    batches.close()


def test_read_ahead_keeps_the_order():
    order = [np.array([i]) for i in range(50)]
    assert list(read_ahead(lambda positions: int(positions[0]), order, threads=4)) == list(range(50))


class Utterances(torch.utils.data.Dataset):
    """A map-style dataset as users write it."""

    def __init__(self, store, names):
        self.store, self.names = store, names

    def __len__(self):
        return len(self.names)

    def __getitem__(self, i):
        return self.names[i], torch.from_numpy(self.store[self.names[i]]["states"])


class Batches(torch.utils.data.IterableDataset):
    """Whole batches; each worker reads its share."""

    def __init__(self, store, names):
        self.store, self.names = store, names

    def __iter__(self):
        worker = torch.utils.data.get_worker_info()
        share = self.names[worker.id :: worker.num_workers]
        for batch in self.store.batches(share, ["states"], utterances=2, seed=0):
            yield [
                (name, torch.from_numpy(frames.decode()))
                for name, frames in zip(batch.names, batch.frames["states"], strict=True)
            ]


@pytest.mark.parametrize("context", [get_context("fork"), FRESH], ids=["fork", "fresh"])
@pytest.mark.parametrize("dataset", [Utterances, Batches])
def test_workers_of_a_data_loader_read_the_same(toy, written, dataset, context):
    """Where they have all that this process has, and where they have what the dataset takes with it."""
    ensure_server()
    store = featurestore.open(written)
    expected = {name: store[name]["states"] for name in toy.readable}  # files are open before the workers start
    loader = torch.utils.data.DataLoader(
        dataset(store, toy.readable), batch_size=None, num_workers=2, multiprocessing_context=context
    )
    found = [pair for item in loader for pair in (item if dataset is Batches else [item])]
    assert sorted(name for name, _ in found) == sorted(toy.readable)
    for name, frames in found:
        assert np.array_equal(frames.numpy(), expected[name])
