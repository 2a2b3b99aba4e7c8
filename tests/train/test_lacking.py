"""Utterances that lack a stream, with a fusion that knows absence: they are heard by the others."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from featurestore.shared.config import load
from featurestore.shared.errors import SerError
from tests.train.test_streams import add_feature
from train.config import TrainConfig
from train.examples.examples import load_examples
from train.models.inference import make_model, predict
from train.models.ridge import PENALTIES, fit_ridges
from train.running.opened import Run
from train.running.run import run

SMALL = "frames: 20, channels: 8, heads: 2, hidden: 16, alone: 1, together: 1"
FUSION = f"fusion={{name: multiscale, {SMALL}, lost: 0.3}}"
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
        line = f"without {name} are 2 utterances ({', '.join(lacking[name][:2])}): it is silent"
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


def test_what_stands_in_their_place_is_not_heard(partial_store, lacking):
    examples = load_examples(partial_store, config())
    model, rows = make_model(examples, config(), 0).eval(), examples.rows(lacking["voice"][:2])
    batch = examples.batch(rows)
    found, voice = model.vectors(batch), batch.streams["voice"]
    assert [frames.values.shape[1] for frames in voice.frames] == [1, 1]
    others = [replace(frames, values=frames.values + 7) for frames in voice.frames]
    changed = replace(batch, streams={**batch.streams, "voice": replace(voice, frames=others)})
    assert torch.equal(model.vectors(changed), found)
    assert torch.isfinite(found).all()


def test_a_run_predicts_them_and_so_does_the_baseline(partial_store, tmp_path, lacking):
    overrides = ["splits.k=3", "plots=false", "workers=1", "optim.epochs=2", f"runs={tmp_path}"]
    folder, results = run(partial_store, config(*overrides), lambda _: None)
    table = pd.read_csv(folder / "predictions.csv", index_col="name")
    kept = [name for of in lacking.values() for name in of[:2]]
    assert set(kept) < set(table.index)
    assert table.notna().all().all()
    assert any("without text are 2 utterances" in line for line in results["warnings"])
    again = Run.open(folder).predict(partial_store, kept)
    assert again.loc[kept, "A_model"].tolist() == pytest.approx(table.loc[kept, "A_model"].tolist(), abs=0)


def test_the_mask_is_learned_from(partial_store, tmp_path, lacking):
    """An utterance without text has a gradient for the token that says so, also where no stream is lost on purpose."""
    asked = config("fusion.lost=0")
    examples = load_examples(partial_store, asked)
    model = make_model(examples, asked, 0).train()
    model.vectors(examples.batch(examples.rows([lacking["text"][0]])))[..., 0].sum().backward()
    text = model.fusion.streams[1].presence.grad
    assert text[0].abs().sum() > 0
    assert text[1].abs().sum() == 0


def test_a_stream_that_nobody_has_is_refused(copied, names):
    store = add_feature(copied, "text", 0, frames=5, failing=names, value=None)
    with pytest.raises(SerError, match=r"streams\.text: no utterance has text: .* expected one at least: extract it"):
        load_examples(store, load(TrainConfig, [], [*WITH_STATES, FUSION]))


def test_a_training_part_that_lacks_a_stream_is_refused(copied, store, tmp_path):
    tables = store.utterances
    last = sorted(tables["speaker"].unique())[-1]
    failing = tables.index[tables["speaker"] != last].tolist()
    partial = add_feature(copied, "text", 0, frames=5, failing=failing, value=lambda _, times: np.ones((5, 2)))
    asked = load(TrainConfig, [], [*WITH_STATES, FUSION, "splits=leave_one_out", f"runs={tmp_path}"])
    with pytest.raises(
        SerError, match=r"fold \d: no utterance of train has text: choose other splits, or leave it out"
    ):
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
