import numpy as np
import pandas as pd
import pytest
import torch

from featurestore.config import load
from featurestore.errors import SerError
from train.config import TrainConfig
from train.examples import load_examples
from train.layers import LayerSum


def config(*overrides):
    return load(TrainConfig, [], overrides)


def test_targets_are_scaled_by_the_declared_range(store):
    examples = load_examples(store, config("targets=[A,V]"))
    expected = (store.utterances[["A", "V"]].to_numpy() - 1) / 4
    assert np.allclose(examples.targets, expected, atol=1e-6)


def test_a_batch_holds_what_the_store_holds(store):
    examples = load_examples(store, config())
    rows = torch.tensor([5, 0, 90])
    (batch,) = examples.batches(rows, size=3)
    end = 0
    for row, length in zip(batch.rows.tolist(), batch.lengths.tolist(), strict=True):
        expected = store[examples.names[row]]["states"]
        assert np.allclose(batch.states[:, end : end + length], expected, atol=1e-5)
        assert np.array_equal(batch.pitch[end : end + length], examples.pitch[row])
        assert torch.equal(batch.targets[batch.rows == row][0], examples.targets[row])
        end += length
    assert end == batch.states.shape[1]


def test_states_without_a_clock_are_trained_on_but_not_aligned(store):
    states = store.feature("states")
    states.spec = states.spec.model_copy(update={"hop": 0.0})
    assert load_examples(store, config("fusion=none")).names
    with pytest.raises(SerError, match="states has no clock"):
        load_examples(store, config("fusion=concat"))


def test_pitch_in_another_unit_is_refused(store):
    pitch = store.feature("pitch")
    pitch.spec = pitch.spec.model_copy(update={"channels": ("semitones", "voiced")})
    with pytest.raises(SerError, match="pitch holds semitones, voiced, expected f0 in Hz"):
        load_examples(store, config("fusion=concat"))


def test_selected_utterances_keep_their_frames(store):
    examples = load_examples(store, config())
    (batch,) = examples.batches(torch.arange(6), size=6)
    chosen = torch.tensor([True, False, True, False, False, True])
    part = batch.select(chosen)
    (alone,) = examples.batches(batch.rows[chosen], size=3)
    assert torch.equal(part.rows, alone.rows)
    assert torch.equal(part.states, alone.states)
    assert torch.equal(part.pitch, alone.pitch)


def test_every_row_is_read_once_an_epoch_in_an_order_that_the_seed_decides(store):
    examples = load_examples(store, config("fusion=none"))
    rows = torch.arange(10, 80)
    first, same, other = ([b.rows.tolist() for b in examples.batches(rows, 8, seed)] for seed in (1, 1, 2))
    assert first == same != other
    assert sorted(row for rows_of_batch in first for row in rows_of_batch) == rows.tolist()


def test_utterances_without_a_label_are_skipped_by_name(store):
    store.utterances.loc["u003", "D"] = np.nan
    examples = load_examples(store, config())
    assert examples.skipped == {"u003": "no label D"}
    assert "u003" not in examples.names
    assert load_examples(store, config("targets=[V]")).skipped == {}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["targets=[V,X]"], r"loss=ccc takes targets=any of V, A, D, each once, found targets=\[V,X\]"),
        (["targets=[emotion]"], "loss=ccc takes"),
        (["loss=cross_entropy"], r"loss=cross_entropy takes targets=\[emotion\]"),
        (["encoder=hubert-large"], "no feature 'hubert-large'; expected one of pitch, states"),
        (["pitch.feature=pich"], "no feature 'pich'; did you mean 'pitch'"),
    ],
)
def test_what_does_not_fit_is_said(store, overrides, message):
    with pytest.raises(SerError, match=message):
        load_examples(store, config(*overrides))


def test_labels_that_the_store_lacks_are_named(store):
    del store.utterances["D"], store.utterances["emotion"]
    with pytest.raises(SerError, match="has no labels D; it has V, A"):
        load_examples(store, config())


@pytest.mark.parametrize("normalize", ["utterance", "none", "train"])
def test_pitch_normalisations(store, normalize):
    examples = load_examples(store, config(f"pitch.normalize={normalize}"))
    height, voiced = examples.pitch[0].T
    assert set(voiced) == {0.0, 1.0}
    assert (height[voiced == 0] == 0).all()
    heard = height[voiced == 1]
    f0 = 100 * np.exp(0.2 * store.utterances["V"].iloc[0])
    expected = {"utterance": 0.0, "none": f0 / 100, "train": np.log(f0)}[normalize]
    assert heard.mean() == pytest.approx(expected, abs=0.05)
    if normalize == "utterance":
        assert heard.std() == pytest.approx(1, abs=1e-3)


def test_the_layer_sum_weighs_normalised_layers():
    torch.manual_seed(0)
    states, mean, sd = torch.randn(4, 30, 6), torch.randn(4, 6), torch.rand(4, 6) + 0.5
    module = LayerSum(mean, sd)
    module.logits.data = torch.tensor([0.0, 1.0, -1.0, 2.0])
    normalised = (states - mean[:, None]) / sd[:, None]
    expected = (normalised * module.weights()[:, None, None]).sum(dim=0)
    assert torch.allclose(module(states), expected, atol=1e-5)
    module(states).sum().backward()
    assert module.logits.grad.abs().max() > 0


def test_the_order_of_rows_in_the_table_does_not_matter(store):
    examples = load_examples(store, config("fusion=none"))
    assert examples.rows(["u007", "u001"]).tolist() == [7, 1]
    assert pd.Index(examples.names).equals(store.utterances.index)
