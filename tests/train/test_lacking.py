"""Utterances that lack a stream, with a fusion that knows absence: they are heard by the others."""

import shutil

import numpy as np
import pandas as pd
import pytest
import torch

import featurestore
from featurestore.shared.config import load
from featurestore.shared.errors import SerError
from tests.train.test_streams import add_feature
from train.config import TrainConfig
from train.examples.examples import load_examples
from train.fusions.multiscale import Multiscale
from train.models.inference import make_model, predict
from train.models.ridge import PENALTIES, fit_ridges
from train.numerics.sequences import Sequences
from train.running.opened import Run
from train.running.run import run

SMALL = "frames: 20, channels: 8, heads: 2, hidden: 16, alone: 1, together: 1"
FUSION = f"fusion={{name: multiscale, {SMALL}, lost: 0.3}}"
QUICK = ["splits.k=3", "plots=false", "workers=1", "optim.epochs=2", "audit=table"]
STREAMS = "streams={voice: {feature: voice, width: 8}, text: {feature: text, width: 8}}"
WITH_STATES = [
    "streams={speech: {feature: states, width: 8}, text: {feature: text, width: 8}}",
    "targets=[A]",
    "width=8",
]


@pytest.fixture
def names(store):
    return store.names()


@pytest.fixture
def lacking(names):
    """Which utterances lack the voice, and which the text; the last one lacks both."""
    return {"voice": [names[3], names[8], names[-1]], "text": [names[1], names[3 + 8], names[-1]]}


@pytest.fixture
def partial_store(copied, lacking):
    """A copy of the store in which some utterances lack the voice, or the text, or both."""
    rng = np.random.default_rng(0)

    def value(_, times):
        return rng.normal(size=(len(times), 2))

    add_feature(copied, "voice", 0.02, failing=lacking["voice"], value=value)
    return add_feature(copied, "text", 0, frames=5, failing=lacking["text"], value=value)


def config(*overrides):
    return load(TrainConfig, [], [STREAMS, FUSION, "targets=[A]", "width=8", *overrides])


def test_they_are_among_the_examples_and_are_named(partial_store, names, lacking):
    examples = load_examples(partial_store, config())
    assert set(examples.skipped) == {names[-1]}
    assert [set(hearing.lacking) for hearing in examples.streams.values()] == [
        set(lacking[name]) - {names[-1]} for name in ("voice", "text")
    ]
    for name in ("voice", "text"):
        line = f"without {name}: 2 utterances ({', '.join(lacking[name][:2])}): it is silent"
        assert line in examples.remarks


def test_other_fusions_leave_them_out(partial_store, lacking):
    streams = "streams={voice: {feature: voice}, text: {feature: text, front: pooled}}"
    examples = load_examples(partial_store, load(TrainConfig, [], [streams, "fusion=concat", "targets=[A]", "width=8"]))
    assert set(examples.skipped) == {name for of in lacking.values() for name in of}


def test_they_are_heard_by_the_other_stream_alone_as_in_any_batch(partial_store, lacking):
    examples = load_examples(partial_store, config())
    model = make_model(examples, config(), 0).eval()
    rows = examples.rows([lacking["text"][0], lacking["voice"][0], lacking["text"][1], *examples.names[4:8]])
    together = predict(model, examples, [rows])["regression"]
    alone = torch.cat([predict(model, examples, [rows[[place]]])["regression"] for place in range(len(rows))])
    assert torch.allclose(together, alone, atol=1e-5)
    model.fusion.absent = frozenset(["text"])
    without = predict(model, examples, [rows])["regression"]
    assert torch.allclose(together[[0, 2]], without[[0, 2]], atol=1e-5)
    assert not torch.allclose(together[3:], without[3:], atol=1e-3)


def test_nothing_is_read_of_what_is_not_there(partial_store, lacking):
    examples = load_examples(partial_store, config())
    whole = examples.rows([*lacking["voice"][:2], *examples.names[4:6]])
    voice = examples.batch(whole).streams["voice"]
    assert voice.there.tolist() == [False, False, True, True]
    assert len(voice.frames) == len(voice.lengths) == 2
    lengths = [partial_store.feature("text").lengths[partial_store.index[name]] for name in examples.names]
    stored = sum(lengths) - 5 * 2
    assert examples.bytes_by_stream[1] == stored * 2 * 4


def test_what_is_not_there_is_no_part_of_the_statistics_of_a_batch(partial_store, lacking):
    asked = config("streams.text.temporal={name: tcn, filters: 8, dilations: 2, dropout: 0}")
    examples = load_examples(partial_store, asked)
    having = examples.rows(examples.names[4:7])

    def passed(rows):
        stream = make_model(examples, asked, 0).train().streams[1]
        return stream(examples.batch(rows).streams["text"]).values[: len(having)], stream.temporal.state_dict()

    alone, state = passed(having)
    beside, other = passed(np.concatenate([having, examples.rows(lacking["text"][:2])]))
    assert torch.allclose(alone, beside, atol=1e-6)
    assert any("running_var" in key for key in state)
    assert all(torch.allclose(other[key].double(), value.double(), atol=1e-6) for key, value in state.items())


def test_chunks_are_as_long_where_the_first_stream_lacks():
    hops = {"voice": 0.02, "energy": 0.01, "text": 0.0}
    module = Multiscale(frames=20, channels=8, heads=2, hidden=16).on_clocks(hops).build(dict.fromkeys(hops, 6))
    energy = Sequences(torch.randn(2, 240, 6), torch.arange(240) < torch.tensor([[240], [160]]))
    voice = Sequences(torch.randn(2, 120, 6), torch.arange(120) < torch.tensor([[120], [80]]))
    nothing = Sequences(torch.zeros(2, 1, 6), torch.zeros(2, 1, dtype=torch.bool))
    with_voice = module._chunked({"voice": voice, "energy": energy, "text": nothing})["energy"]
    without = module._chunked({"voice": nothing, "energy": energy, "text": nothing})["energy"]
    assert torch.equal(with_voice.values, without.values)
    assert torch.equal(with_voice.mask, without.mask)
    silent = module._chunked({"voice": nothing, "energy": nothing, "text": nothing})
    assert all(torch.isfinite(one.values).all() for one in silent.values())


def test_a_run_predicts_them_and_so_does_the_baseline(partial_store, tmp_path, lacking):
    folder, results = run(partial_store, config(*QUICK, f"runs={tmp_path}"), lambda _: None)
    table = pd.read_csv(folder / "predictions.csv", index_col="name")
    kept = [name for of in lacking.values() for name in of[:2]]
    assert set(kept) < set(table.index)
    assert table.notna().all().all()
    assert any("without text: 2 utterances" in line for line in results["warnings"])
    again = Run.open(folder).predict(partial_store, kept)
    assert again["lacks"].tolist() == ["voice", "voice", "text", "text"]
    assert again.loc[kept, "A_model"].tolist() == pytest.approx(table.loc[kept, "A_model"].tolist(), abs=0)


def test_a_store_in_which_nobody_has_a_stream_is_predicted(store_path, partial_store, tmp_path, commands, lacking):
    folder, _ = run(partial_store, config(*QUICK, "baseline=false", f"runs={tmp_path}"), lambda _: None)
    other = tmp_path / "other.zarr"
    shutil.copytree(store_path, other)
    rng = np.random.default_rng(0)
    add_feature(other, "voice", 0.02, value=lambda _, times: rng.normal(size=(len(times), 2)))
    names = featurestore.open(other).names()
    silent = add_feature(other, "text", 0, frames=5, failing=names, value=None)
    table = Run.open(folder).predict(silent)
    assert set(table["lacks"]) == {"text"}
    assert table["A_model"].notna().all()
    done = commands.run("predict", "--run", folder, "--store", other, "--out", tmp_path / "found.csv")
    assert done.returncode == 0, done.stderr
    assert f"{len(names)} utterances (u000, u001, u002, …): lack text, heard by the others" in done.stdout


@pytest.mark.parametrize("front", ["pooled", "standardize"])
def test_a_part_of_a_training_part_that_lacks_a_stream_is_refused(copied, names, tmp_path, front):
    partial = add_feature(copied, "text", 0, frames=5, failing=names[3:], value=lambda _, times: np.ones((5, 2)))
    asked = [*WITH_STATES, FUSION, f"streams.text.front={front}", "train_share=0.1", *QUICK, f"runs={tmp_path}"]
    with pytest.raises(SerError, match="to be trained on has text"):
        run(partial, load(TrainConfig, [], asked), lambda _: None)


def test_the_mask_is_learned_from(partial_store, lacking):
    """An utterance without text has a gradient for the token that says so, also where no stream is lost on purpose."""
    asked = config("fusion.lost=0")
    examples = load_examples(partial_store, asked)
    model = make_model(examples, asked, 0).train()
    model.vectors(examples.batch(examples.rows([lacking["text"][0]])))[..., 0].sum().backward()
    text = model.fusion.streams[1].presence.grad
    assert text[0].abs().sum() > 0
    assert text[1].abs().sum() == 0


def test_a_stream_that_nobody_has_is_refused(copied, names, tmp_path):
    store = add_feature(copied, "text", 0, frames=5, failing=names, value=None)
    with pytest.raises(SerError, match=r"none of \d+ utterances \(u000, .*\) to be trained on has text: extract it"):
        run(store, load(TrainConfig, [], [*WITH_STATES, FUSION, *QUICK, f"runs={tmp_path}"]), lambda _: None)
    assert not any(tmp_path.glob("toy/*/*"))


def test_a_training_part_that_lacks_a_stream_is_refused(copied, store, tmp_path):
    tables = store.utterances
    last = sorted(tables["speaker"].unique())[-1]
    failing = tables.index[tables["speaker"] != last].tolist()
    partial = add_feature(copied, "text", 0, frames=5, failing=failing, value=lambda _, times: np.ones((5, 2)))
    asked = load(TrainConfig, [], [*WITH_STATES, FUSION, "splits=leave_one_out", f"runs={tmp_path}"])
    with pytest.raises(SerError, match="to be trained on has text: extract it again, choose other splits, or"):
        run(partial, asked, lambda _: None)


def test_a_ridge_predicts_the_mean_of_what_it_knows_nothing_of():
    rng = np.random.default_rng(0)
    inputs, targets, unseen = rng.normal(size=(20, 3)), rng.normal(size=(20, 2)), rng.normal(size=(4, 3))
    inputs[[2, 5]], unseen[1] = np.nan, np.nan
    found = fit_ridges(inputs, targets, unseen)
    known = np.delete(np.arange(20), [2, 5])
    others = fit_ridges(inputs[known], targets[known], unseen[[0, 2, 3]])
    assert np.array_equal(found[:, [0, 2, 3]], others)
    assert np.allclose(found[:, 1], targets[known].mean(axis=0)[None].repeat(len(PENALTIES), axis=0))
    nothing = fit_ridges(np.full_like(inputs, np.nan), targets, unseen)
    assert np.allclose(nothing, targets.mean(axis=0))
