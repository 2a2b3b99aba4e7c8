import numpy as np
import pandas as pd
import pytest
import torch

from featurestore.format.codec import encode
from featurestore.shared.config import load
from featurestore.shared.errors import SerError
from train.config import TrainConfig
from train.examples.examples import load_examples
from train.models.schedule import epoch_order
from train.numerics.layers import LayerSum


def config(*overrides):
    return load(TrainConfig, [], overrides)


def test_targets_are_scaled_by_the_declared_range(store):
    examples = load_examples(store, config("targets=[A,V]"))
    expected = (store.utterances[["A", "V"]].to_numpy() - 1) / 4
    assert np.allclose(examples.targets["regression"], expected, atol=1e-6)


def test_a_batch_holds_what_the_store_holds(store):
    examples = load_examples(store, config())
    rows = np.array([5, 0, 90])
    batch = examples.batch(rows)
    assert batch.rows.tolist() == rows.tolist()
    assert torch.equal(batch.targets["regression"], examples.targets["regression"][rows])
    for place, row in enumerate(rows):
        name = examples.names[row]
        assert np.array_equal(batch.streams["speech"].frames[place].decode(), store[name]["states"])
        count = store[name]["states"].shape[1]
        assert [stream.lengths[place] for stream in batch.streams.values()] == [count, count]
        log_f0, voiced = batch.streams["pitch"].frames[place].decode()[0].T
        f0 = store[name]["pitch"][0, :, 0]
        assert np.array_equal(voiced, f0 > 0)
        assert np.allclose(log_f0[f0 > 0], np.log(f0[f0 > 0]), atol=1e-6)


def test_states_without_a_clock_are_trained_on_but_not_aligned(store):
    states = store.feature("states")
    states.spec = states.spec.model_copy(update={"hop": 0.0})
    assert load_examples(store, config("fusion=none")).names
    with pytest.raises(SerError, match=r"streams\.speech: states has no clock, so pitch and speech cannot meet"):
        load_examples(store, config("fusion=concat"))


def test_pitch_in_another_unit_is_no_log_f0(store):
    pitch = store.feature("pitch")
    pitch.spec = pitch.spec.model_copy(update={"channels": ("semitones", "voiced")})
    with pytest.raises(SerError, match="pitch holds semitones, voiced, expected f0 in Hz"):
        load_examples(store, config("fusion=concat", "streams.speech={}", "streams.pitch.front=log_f0"))
    heard = load_examples(store, config("fusion=concat")).streams["pitch"]
    assert heard.front.name == "standardize"


def test_an_utterance_is_the_same_in_any_batch(store):
    examples = load_examples(store, config())
    together, alone = examples.batch(np.arange(6)), examples.batch(np.array([2, 5]))
    for name, stream in alone.streams.items():
        for place, row in enumerate(alone.rows.tolist()):
            other = together.streams[name]
            assert np.array_equal(stream.frames[place].decode(), other.frames[row].decode())
            assert stream.lengths[place] == other.lengths[row]
            if stream.alignment:
                mine, theirs = stream.alignment[place], other.alignment[row]
                assert all(np.array_equal(getattr(mine, part), getattr(theirs, part)) for part in vars(mine))


def test_streams_of_one_feature_keep_their_own_layers_on_a_device(store):
    layers = "streams={low: {feature: states, layers: 0}, high: {feature: states, layers: [1, 2]}}"
    examples = load_examples(store, config("fusion=concat", layers))
    read = examples.batch(np.arange(4))
    examples.kept.device = torch.device("cpu")
    for _ in range(2):
        for name, stream in examples.batch(np.arange(4)).streams.items():
            for kept, frames in zip(stream.frames, read.streams[name].frames, strict=True):
                assert isinstance(kept.values, torch.Tensor)
                assert np.array_equal(kept.values.numpy(), frames.values)


def test_room_on_a_device_is_asked_for_once(store, monkeypatch):
    """What the first model has left there is what the second one reads, though it has filled the memory."""
    examples, device, free = load_examples(store, config("fusion=none")), torch.device("cuda"), [10**9]
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (free[0], 10**9))
    for left in (10**9, 0):
        free[0] = left
        examples.keep_on(device)
        assert examples.kept.device == device
    full = load_examples(store, config("fusion=none"))
    full.keep_on(device)
    assert full.kept.device is None


def test_every_row_is_read_once_an_epoch_in_an_order_that_the_seed_decides(store):
    examples = load_examples(store, config("fusion=none"))
    rows = np.arange(10, 80)

    def order(seed):
        return epoch_order(rows, examples.lengths, 8, np.random.default_rng(seed))

    first, same, other = ([batch.rows.tolist() for batch in examples.batches(order(seed))] for seed in (1, 1, 2))
    assert first == same != other
    assert sorted(row for batch in first for row in batch) == rows.tolist()


def test_utterances_without_a_label_are_skipped_by_name(store):
    store.utterances.loc["u003", "D"] = np.nan
    examples = load_examples(store, config())
    assert examples.skipped == {"u003": "no label D"}
    assert "u003" not in examples.names
    assert load_examples(store, config("targets=[V]")).skipped == {}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["targets=[V,X]"], r"has no labels X; it has speaker, split, emotion, V, A, D"),
        (["targets=[V,A,V]"], "each target is expected once, found V more than once"),
        (["targets=[]"], r"targets=\[\] asks for nothing"),
        (["targets=[emotion]", "loss=ccc"], r"loss=ccc is of a regression, found targets=\[emotion\]"),
        (["loss=cross_entropy"], r"loss=cross_entropy is of a classification, found targets=\[V,A,D\]"),
        (["streams.speech.feature=hubert-large"], "no feature 'hubert-large'; expected one of pitch, states"),
        (["streams={speech: {}, pitch: {feature: pich}}"], "no feature 'pich'; did you mean 'pitch'"),
    ],
)
def test_what_does_not_fit_is_said(store, overrides, message):
    with pytest.raises(SerError, match=message):
        load_examples(store, config(*overrides))


def test_labels_that_the_store_lacks_are_named(store):
    del store.utterances["D"], store.utterances["emotion"]
    with pytest.raises(SerError, match="has no labels D; it has speaker, split, V, A"):
        load_examples(store, config())


def test_the_layer_sum_weighs_normalised_layers():
    rng = np.random.default_rng(0)
    states, mean, sd = rng.normal(size=(4, 30, 6)), rng.normal(size=(4, 6)), rng.uniform(0.5, 1.5, (4, 6))
    module = LayerSum(4, 6, learned=True)
    module.normalise_by(mean.astype("f4"), sd.astype("f4"))
    module.logits.data = torch.tensor([0.0, 1.0, -1.0, 2.0])
    expected = np.tensordot(module.weights().detach().numpy(), (states - mean[:, None]) / sd[:, None], axes=1)
    found = module([encode(states.astype("f4"), "float32")])
    assert np.allclose(found.detach(), expected, atol=1e-5)
    found.sum().backward()
    assert module.logits.grad.abs().max() > 0


def test_the_order_of_rows_in_the_table_does_not_matter(store):
    examples = load_examples(store, config("fusion=none"))
    assert examples.rows(["u007", "u001"]).tolist() == [7, 1]
    assert pd.Index(examples.names).equals(store.utterances.index)


def test_rows_that_are_not_there_are_named(store):
    """As those of a run whose store has been extracted again since, and an utterance failed."""
    store.utterances.loc["u003", "D"] = np.nan
    examples = load_examples(store, config("fusion=none"))
    for names, why in ((["u001", "u003"], r"1 utterance \(u003\) cannot be used: no label D"), (["x", "y"], "2 utter")):
        with pytest.raises(SerError, match=why):
            examples.rows(names)
    assert examples.rows([]).tolist() == []
