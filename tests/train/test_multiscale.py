"""Chunks of random lengths, pyramids, and streams that are missing."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some

import featurestore
from featurestore.access.writer import StoreWriter
from featurestore.format.plan import FeaturePlan, FeatureSpec
from featurestore.shared.config import load
from featurestore.shared.errors import SerError
from train.commands.missing import missing_grid
from train.config import TrainConfig
from train.curves.chunks import chunk_starts
from train.curves.multiscale import around, cropped, positions, pyramid, spread
from train.examples.examples import load_examples
from train.fusions.multiscale import Multiscale
from train.models.inference import make_model, predict
from train.numerics.metrics import ccc
from train.numerics.sequences import Sequences
from train.running.opened import Run, open_model
from train.running.run import run

SMALL = {"channels": 8, "heads": 2, "hidden": 16, "alone": 1, "together": 1}
BOTH = {"speech": 0.02, "text": 0.0}
"""The seconds from frame to frame of two streams, of which tokens have none."""


def built(hops, **settings):
    """Return the module for streams of six channels on such clocks."""
    return Multiscale(**SMALL, **settings).on_clocks(hops).build(dict.fromkeys(hops, 6))


def test_a_pyramid_holds_the_means_of_its_parts():
    values = torch.arange(10.0)[None, :, None]
    found = pyramid(values, torch.tensor([[0, 2]]), torch.tensor([[8, 6]]))[0]
    assert found[0].tolist() == [3.5, 1.5, 5.5, 0.5, 2.5, 4.5, 6.5]
    assert found[1].tolist() == [3.5] * 7  # four frames: their mean, seven times
    five = pyramid(values, torch.tensor([[1]]), torch.tensor([[6]]))[0, 0]
    assert five.tolist() == [3.0, 1.5, 4.0, 1.0, 2.0, 3.0, 4.5]


@given(lengths=some.lists(some.integers(1, 300), min_size=1, max_size=5), counts=some.data())
def test_chunks_of_different_numbers_are_spread_as_those_of_one(lengths, counts):
    number = counts.draw(some.lists(some.integers(2, 20), min_size=len(lengths), max_size=len(lengths)))
    begins, there = spread(torch.tensor(lengths), torch.tensor(number), torch.full((len(lengths),), 50))
    for row, (length, count) in enumerate(zip(lengths, number, strict=True)):
        assert begins[row, :count].tolist() == chunk_starts(length, 50, count).tolist()
        assert there[row].sum() == count


@given(seed=some.integers(0, 99))
def test_pieces_lie_in_their_chunks(seed):
    torch.manual_seed(seed)
    begins = torch.tensor([[0, 30, 60]])
    ends = begins + torch.tensor([[50, 50, 3]])
    first, last = cropped(begins, ends, torch.tensor([0.2, 0.6, 1.0]))
    assert (begins <= first).all()
    assert (last <= ends).all()
    assert set((last - first)[0, :2].tolist()) <= {10, 30, 50}
    assert int((last - first)[0, 2]) in (1, 2, 3)


def test_positions():
    assert positions(3, 4)[0].tolist() == [0, 1, 0, 1]
    assert positions(3, 4)[2] == pytest.approx([np.sin(2), np.cos(2), np.sin(0.02), np.cos(0.02)])


def streams(seed):
    generator = torch.Generator().manual_seed(seed)
    speech, text = torch.randn(2, 120, 6, generator=generator), torch.randn(2, 5, 6, generator=generator)
    there = torch.arange(120) < torch.tensor([[120], [70]]), torch.arange(5) < torch.tensor([[5], [3]])
    return {"speech": Sequences(speech, there[0]), "text": Sequences(text, there[1])}


def test_a_stream_that_is_missing_is_not_heard():
    torch.manual_seed(0)
    module = built(BOTH).eval()
    whole = module(streams(1)).values
    module.absent = frozenset(["text"])
    without = module(streams(1)).values
    other = {"speech": streams(1)["speech"], "text": streams(2)["text"]}
    assert torch.allclose(module(other).values, without, atol=1e-6)
    longer = Sequences(torch.randn(2, 9, 6), torch.ones(2, 9, dtype=torch.bool))  # nor how many tokens it had
    assert torch.allclose(module({**other, "text": longer}).values, without, atol=1e-6)
    assert not torch.allclose(whole, without, atol=1e-3)
    module.absent, module.gone = frozenset(), {"text": 1.0}
    assert not torch.allclose(module(streams(1)).values, without, atol=1e-3)  # there, and silent: another token says so


def test_chunks_of_streams_of_different_clocks_are_of_the_same_times():
    speech = Sequences(torch.randn(2, 120, 6), torch.arange(120) < torch.tensor([[120], [80]]))
    faster = Sequences(speech.values.repeat_interleave(2, dim=1), speech.mask.repeat_interleave(2, dim=1))
    module = built({"speech": 0.02, "logmel": 0.01}, frames=20).eval()
    slow, fast = module._chunked({"speech": speech, "logmel": faster}).values()
    assert torch.allclose(slow.values, fast.values, atol=1e-6)
    assert torch.equal(slow.mask, fast.mask)
    assert slow.mask.sum(dim=1).tolist() == [6, 4]


@pytest.mark.parametrize("hop", [0.01, 0.016, 0.02])
def test_a_chunk_is_a_second_on_any_clock(hop):
    fusion = Multiscale().on_clocks({"text": 0.0, "speech": hop, "pitch": 0.005})
    assert (fusion.tokens, fusion.frames) == (("text",), int(1 / hop + 1e-6))
    assert fusion.seconds == pytest.approx(1, abs=hop)
    assert Multiscale(frames=30).on_clocks({"speech": hop}).seconds == pytest.approx(30 * hop)


def test_streams_without_a_clock_are_tokens_whatever_their_names(store):
    other = {"transcript": 0.0, "speech": 0.02}
    assert Multiscale().on_clocks(other).tokens == ("transcript",)
    assert Multiscale(tokens=("speech", "transcript")).on_clocks(other).tokens == ("speech", "transcript")
    with pytest.raises(SerError, match=r"tokens=\[text\]: text is no stream, the streams are transcript, speech"):
        Multiscale(tokens=("text",)).on_clocks(other)
    with pytest.raises(SerError, match=r"fusion.tokens=\[\]: transcript has no clock, so it cannot be cut"):
        Multiscale(tokens=()).on_clocks(other)
    config = load(TrainConfig, [], ["streams={speech: {}, pitch: {front: pooled}}", "fusion=multiscale"])
    assert make_model(load_examples(store, config), config, 0).fusion.settings.tokens == ("pitch",)


def test_one_vector_of_an_utterance_does_not_tell_how_many_chunks_there_are():
    """Nor do streams whose one frame stands before a text."""
    module = built({"functionals": 0.0, **BOTH}).eval()
    one = Sequences(torch.randn(2, 1, 6), torch.ones(2, 1, dtype=torch.bool))
    longer = torch.arange(200) < torch.tensor([[200], [70]])
    chunked = module._chunked({"functionals": one, **streams(1)})
    assert chunked["speech"].mask.sum(dim=1).tolist() == [5, 3]
    speech = Sequences(torch.randn(2, 200, 6), longer)
    alone = built({"functionals": 0.0, "speech": 0.02}).eval()
    assert alone._chunked({"functionals": one, "speech": speech})["speech"].mask.sum(dim=1).tolist() == [4, 2]


def test_a_text_that_is_missing_does_not_tell_its_tokens_where_it_comes_first():
    module = built({"text": 0.0, "speech": 0.02}).eval()
    module.absent = frozenset(["text"])
    speech, longer = streams(1)["speech"], Sequences(torch.randn(2, 190, 6), torch.ones(2, 190, dtype=torch.bool))
    found = [module({"text": text, "speech": speech}).values for text in (streams(1)["text"], longer)]
    assert torch.allclose(*found, atol=1e-6)


def test_chunks_lie_around_frames_and_within_their_utterance():
    middles = torch.tensor([[10.0, 30.0, 99.0, torch.nan], [2.0, torch.nan, torch.nan, torch.nan]])
    others, lengths = torch.tensor([[0, 20, 40, 60, 80], [0, 1, 0, 0, 0]]), torch.tensor([100, 5])
    found = around(middles, others, lengths, torch.tensor([20, 20]))
    assert found.tolist() == [[0, 20, 80, 60, 80], [0, 1, 0, 0, 0]]


def words_of(*utterances):
    """Return the stream of the times of words: of each utterance the start and end of each token, or None."""
    longest = max(map(len, utterances))
    values = torch.zeros(len(utterances), longest, 3)
    for row, tokens in enumerate(utterances):
        for place, times in enumerate(tokens):
            values[row, place] = torch.tensor([*times, 1.0] if times else [0.0, 0.0, 0.0])
    return Sequences(values, torch.arange(longest) < torch.tensor([[len(one)] for one in utterances]))


WORDS = words_of([None, (0.5, 0.7), (1.6, 1.8), (2.3, 2.4), None], [None, (0.4, 0.8), (1.3, 1.3)])
SPOKEN = {**BOTH, "words": 0.0}


def test_chunks_follow_words_on_any_clock():
    """Values are seconds, so that the mean of a chunk is its middle; the last word is too near the end for it."""
    module = built({**SPOKEN, "logmel": 0.01}, seconds=0.4, words="words").eval()
    heard = {"text": streams(1)["text"], "words": WORDS}
    for name, hop, lengths in (("speech", 0.02, (120, 70)), ("logmel", 0.01, (240, 140))):
        seconds = hop * (torch.arange(max(lengths)) + 0.5)
        mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
        heard[name] = Sequences(seconds.expand(2, -1)[..., None].repeat(1, 1, 6), mask)
    fused = {name: heard[name] for name in ("speech", "text", "logmel")}
    chunked = module._chunked(fused, module._middles(heard))
    for name in ("speech", "logmel"):
        middles = chunked[name].values[..., 0]
        assert middles[0].tolist() == pytest.approx([0.2, 0.6, 1.7, 2.2, 2.2], abs=0.01)
        assert middles[1, :3].tolist() == pytest.approx([0.2, 0.6, 1.2], abs=0.01)
        assert chunked[name].mask.sum(dim=1).tolist() == [5, 3]


def test_words_are_no_stream_of_the_fusion_and_are_not_heard_without_their_text():
    torch.manual_seed(0)
    module, without = built(SPOKEN, words="words", lost=0.5).eval(), built(BOTH, lost=0.5).eval()
    without.load_state_dict(module.state_dict())
    assert module.absences == without.absences
    heard, nothing = {**streams(1), "words": WORDS}, words_of([None] * 5, [None] * 3)
    assert not torch.allclose(module(heard).values, without(streams(1)).values, atol=1e-3)
    assert torch.equal(module({**heard, "words": nothing}).values, without(streams(1)).values)
    for absent in ("text", "words"):
        module.absent, without.absent = frozenset([absent]), frozenset([absent])
        assert torch.equal(module(heard).values, without(streams(1)).values)


def test_words_that_do_not_fit_are_refused():
    with pytest.raises(SerError, match="the times of 4 tokens of an utterance, and 3 tokens in text, the first stream"):
        built(SPOKEN, words="words")({**streams(1), "words": words_of([None] * 5, [None] * 4)})
    with pytest.raises(SerError, match=r"fusion\.words=times is no stream, the streams are speech, text"):
        built(BOTH, words="times")
    with pytest.raises(SerError, match="found the streams text, expected one of tokens"):
        built({"text": 0.0, "words": 0.0}, words="words")


def test_the_vector_is_a_mean_of_the_tokens_that_are_there():
    torch.manual_seed(0)
    module = built(BOTH).eval()
    tokens, both = torch.randn(3, 2, 8), torch.ones(2, 3, dtype=torch.bool)
    one = torch.tensor([[True] * 3, [False] * 3])
    assert torch.allclose(module._joined(tokens, one), tokens[:, 0])
    share = module._joined(tokens, both) - tokens[:, 1]
    share = share / (tokens[:, 0] - tokens[:, 1])
    assert torch.allclose(share, share[:, :1].expand(-1, 8), atol=1e-4)  # one weight of each utterance
    assert ((share > 0) & (share < 1)).all()
    assert built(BOTH, join="concat").dim == 16


@pytest.mark.parametrize(("names", "lost"), [("ab", ["b", "a"]), ("abc", ["bc", "ac", "ab", "a", "b", "c"])])
def test_the_loss_is_of_all_streams_of_each_alone_and_without_each(names, lost):
    *some_lost, (nothing, rest) = built(dict.fromkeys(names, 0.02), lost=0.6).absences
    assert [absent for absent, _ in some_lost] == [frozenset(one) for one in lost]
    assert [share for _, share in some_lost] == [pytest.approx(0.6 / len(lost))] * len(lost)
    assert (nothing, rest) == (frozenset(), pytest.approx(0.4))
    assert built({"a": 0.02}, lost=0.6).absences == ((frozenset(), 1.0),)


def test_training_hears_pieces_and_loses_parts():
    torch.manual_seed(0)
    for setting in ({"shares": (0.2, 1.0)}, {"lost_parts": 0.5}):
        module = built(BOTH, **setting)
        found = [module(streams(1)).values for _ in range(8)]
        assert not all(torch.equal(found[0], one) for one in found[1:])
        module.eval()
        assert torch.equal(module(streams(1)).values, module(streams(1)).values)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("fusion={name: multiscale, channels: 10, heads: 4}", r"fusion.heads \(4\) must divide fusion.channels \(10\)"),
        ("fusion={name: multiscale, shares: [0.2, 2]}", r"expected shares above 0, up to 1, found \[0.2, 2.0\]"),
    ],
)
def test_settings_that_cannot_be(override, message):
    with pytest.raises(SerError, match=message):
        load(TrainConfig, [], [override])


def mean_on_dev(folder):
    """What a model reaches on dev with both streams, and with each alone, by the shares of the loss."""
    opened = Run.open(folder)
    examples, (key,) = opened.examples, opened.folder.models
    model = open_model(opened.folder, opened.folder.config, examples, key)
    rows = examples.rows(opened.folder.fold(0).dev)
    found = []
    for absent in ([], ["speech"], ["pitch"]):
        model.fusion.absent = frozenset(absent)
        predicted = examples.goals["regression"].represent(predict(model, examples, [rows])["regression"])
        found.append(ccc(examples.targets["regression"][torch.from_numpy(rows)][:, 0], predicted[:, 0]))
    return np.average(found, weights=[0.7, 0.15, 0.15])


QUICK = ["splits.k=3", "folds=[0]", "targets=[A]", "width=8", "baseline=false", "plots=false", "workers=1"]
TWO = ["streams={speech: {}, pitch: {}}", "fusion={name: multiscale, frames: 20, channels: 16, hidden: 16, alone: 1}"]


def trained(store, tmp_path, *overrides):
    return run(store, load(TrainConfig, [], [*QUICK, f"runs={tmp_path}", *overrides]), lambda _: None)


@pytest.fixture
def spoken_store(copied):
    """A copy of the store with tokens of a text, and the times of their words."""
    writer, rng = StoreWriter(copied), np.random.default_rng(2)
    names = featurestore.open(copied).names()
    tokens = rng.integers(3, 7, len(names))
    text = FeatureSpec(layers=1, dim=4, hop=0.0, dtype="float32")
    words = FeatureSpec(layers=1, dim=3, hop=0.0, dtype="float32", channels=("start", "end", "aligned"))
    with writer.lock():
        for feature, spec in (("text", text), ("words", words)):
            writer.plan_feature(feature, FeaturePlan(spec, tokens, np.full(len(names), 0.2)))
            for number in writer.pending(feature):
                with writer.shard(feature, number) as shard:
                    for name in shard.names:
                        values = rng.uniform(0, 0.4, (1, tokens[names.index(name)], spec.dim))
                        shard.add(name, values.round(2).astype(np.float32))
            writer.commit(feature)
    return featurestore.open(copied)


TOLD = ["streams={speech: {}, text: {}, words: {}}", "fusion={name: multiscale, seconds: 0.2, words: words}"]


def test_a_run_whose_chunks_follow_words(spoken_store, tmp_path):
    augment = "augment=[mixup,noise,{name: frame_dropout, share: 0.5}]"
    folder, _ = trained(spoken_store, tmp_path, *TOLD, augment, "fusion.lost=0.3", "optim.epochs=1")
    opened = Run.open(folder)
    model = open_model(opened.folder, opened.folder.config, opened.examples, opened.folder.models[0])
    batch = opened.examples.batch(np.arange(4))
    heard = model.train().hear(batch)
    assert set(heard.streams) == {"speech", "text"}  # no augmentation changes the times
    times, _ = model.streams[2](batch.streams["words"])
    for row, name in enumerate(opened.examples.names[:4]):
        stored = spoken_store[name]["words"][0]
        assert np.array_equal(times[row, : len(stored)].detach(), stored)
    assert set(missing_grid(folder)["stream"]) == {"speech", "text"}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "streams.words.feature=text",
            "streams.words: text has the channels of no name, the fusion expects start, end",
        ),
        ("streams.words.dropout=0.5", "streams.words is heard as it is stored: leave dropout of it out"),
        ("streams.words.front={name: standardize}", "streams.words is heard as it is stored: leave front of it out"),
        ("augment=[{name: noise, streams: [words]}]", "augment: noise is of words; the streams are speech, text"),
    ],
)
def test_words_are_heard_as_they_are_stored(spoken_store, tmp_path, override, message):
    with pytest.raises(SerError, match=message):
        trained(spoken_store, tmp_path, *TOLD, override)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_what_is_missing_is_the_same_again(store, tmp_path, device):
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no GPU")
    folder, _ = trained(store, tmp_path, *TWO, "optim.epochs=1", f"device={device}")
    first = missing_grid(folder)
    torch.rand(7, device=device)
    state = torch.get_rng_state()
    assert missing_grid(folder).equals(first)
    assert torch.equal(torch.get_rng_state(), state)


def test_what_a_run_bears_that_is_missing(store, commands, tmp_path):
    folder, results = trained(store, tmp_path, *TWO, "fusion.together=1", "fusion.lost=0.3", "optim.epochs=3")
    done = commands.run("missing", folder)
    assert done.returncode == 0, done.stderr
    grid = pd.read_csv(folder / "missing.csv", index_col=["stream", "missing", "rate"])[["value", "low", "high"]]
    assert len(grid) == 2 * 2 * 5
    whole = [results["results"]["model"]["A"][end] for end in ("value", "low", "high")]
    for stream in ("speech", "pitch"):
        for kind in ("utterances", "parts"):
            assert grid.loc[stream, kind, 0.0].tolist() == pytest.approx(whole, abs=1e-6)
            assert grid.loc[stream, kind, 1.0].tolist() != pytest.approx(whole, abs=1e-6)
    assert abs(grid.loc["speech", "utterances", 1.0]["value"]) < 0.35  # the pitch knows nothing of A
    assert (folder / "plots" / "missing.svg").exists()
    assert results["models"][0]["best_score"] == pytest.approx(mean_on_dev(folder), abs=1e-6)

    without, _ = trained(store, tmp_path, *TWO, "optim.epochs=1")
    done = commands.run("missing", folder, without, "--out", tmp_path / "both")
    assert done.returncode == 0, done.stderr
    both = pd.read_csv(tmp_path / "both" / "missing.csv").groupby("run", sort=False)
    assert [run for run, _ in both] == [str(folder), str(without)]
    assert both.get_group(str(folder)).set_index(["stream", "missing", "rate"])[["value", "low", "high"]].equals(grid)
    assert (tmp_path / "both" / "plots" / "missing.svg").exists()
    done = commands.run("missing", folder, without)
    assert "found 2 runs, expected the folder of one, or of several with --out DIR" in done.stderr
    other, _ = trained(store, tmp_path, *TWO, "optim.epochs=1", "splits.seed=6")
    with pytest.raises(SerError, match="has other utterances than"):
        missing_grid(folder, other)
    with pytest.raises(SerError, match="found fusion=none of speech, expected two streams or more"):
        missing_grid(trained(store, tmp_path, "fusion=none", "optim.epochs=1")[0])
