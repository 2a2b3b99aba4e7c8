"""Which features are heard, how each of them is standardised, and how they meet in time."""

import numpy as np
import pytest
import torch

import featurestore
from featurestore.access.writer import StoreWriter
from featurestore.format.plan import FeaturePlan, FeatureSpec
from featurestore.shared.config import load
from featurestore.shared.errors import SerError
from train.config import TrainConfig
from train.examples.examples import load_examples
from train.models.inference import make_model
from train.reading.corpora import Corpora
from train.running.run import run

QUICK = ["splits.k=3", "width=8", "optim.epochs=1", "workers=1", "baseline=false", "plots=false"]


def examples_of(store, *overrides):
    return load_examples(store, load(TrainConfig, [], ["width=8", *overrides]))


def add_feature(path, name, hop, first=0.0, seconds=None, value=None, failing=(), **spec):
    """Add a feature to a store, and return the store; ``value(utterance, times)`` gives its frames (frames, dim)."""
    store, writer = featurestore.open(path), StoreWriter(path)
    durations = store.utterances["duration"].to_numpy()
    frames = np.maximum(1, (durations / hop).astype(int)) if hop else np.full(len(durations), spec.pop("frames"))
    with writer.lock():
        described = FeatureSpec(**{"layers": 1, "dim": 2, "hop": hop, "dtype": "float32", **spec})
        writer.plan_feature(name, FeaturePlan(described, frames, np.full(len(durations), first)))
        for number in writer.pending(name):
            with writer.shard(name, number) as shard:
                for utterance in shard.names:
                    if utterance in failing:
                        shard.fail(utterance, "it is silent")
                        continue
                    times = first + hop * np.arange(frames[store.index[utterance]])
                    values = value(utterance, times).astype(np.float32)
                    shard.add(utterance, np.broadcast_to(values, (described.layers, *values.shape)).copy())
        writer.commit(name)
    return featurestore.open(path)


def heard(examples, stream, rows):
    """Return the frames of a stream as the embedding takes them, before it is standardised by the training part."""
    batch = examples.batch(np.asarray(rows)).streams[stream]
    hearing = examples.streams[stream]
    return batch.align(hearing.front.build(hearing.source)(batch.frames)).detach().numpy(), batch.lengths


@pytest.mark.parametrize(
    ("overrides", "streams"),
    [
        ([], {"speech": "states", "pitch": "pitch"}),
        (["fusion=concat"], {"speech": "states", "pitch": "pitch"}),
        (["fusion=none"], {"speech": "states"}),
        (["fusion=none", "streams.p.feature=pitch"], {"p": "pitch"}),
        (["streams.pitch.front={name: log_f0, normalize: utterance}"], {"speech": "states", "pitch": "pitch"}),
        (["streams.speech.dropout=0.1"], {"speech": "states", "pitch": "pitch"}),
        (["fusion=concat", "streams={a: {feature: pitch}, b: {feature: states}}"], {"a": "pitch", "b": "states"}),
        (["streams={speech: {}, pitch: {}}"], {"speech": "states", "pitch": "pitch"}),
    ],
)
def test_what_is_heard_by_default(store, overrides, streams):
    found = examples_of(store, *overrides).streams
    assert {name: hearing.source.name for name, hearing in found.items()} == streams
    assert list(found) == list(streams)


def test_fronts_dropout_and_widths_by_default(store):
    found = examples_of(store).streams
    assert [hearing.front.name for hearing in found.values()] == ["layer_sum", "log_f0"]
    assert [hearing.stream.dropout for hearing in found.values()] == [0.5, 0.0]
    assert [hearing.stream.width for hearing in found.values()] == [8, 8]
    found = examples_of(store, "fusion={name: concat, width: 3}", "streams={a: {feature: states}, b: {feature: pitch}}")
    assert [hearing.stream.width for hearing in found.streams.values()] == [8, 3]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["fusion=none", "streams={speech: {}, pitch: {}}"], "fusion=none takes 1 streams, found 2: speech, pitch"),
        (["streams={speech: {}, text: {}}"], "no feature 'text'; expected one of pitch, states"),
        (["streams.speech.layers=3"], "states has 3 layers, numbered from 0: found layers=3"),
        (["streams.speech.layers=-4"], "states has 3 layers, numbered from 0: found layers=-4"),
        (["streams.speech.layers=[0,7]"], r"states has 3 layers, numbered from 0: found layers=\(0, 7\)"),
        (["streams.speech.layers=[]"], r"states has 3 layers, numbered from 0: found layers=\(\)"),
        (["streams.speech.front=standardize"], "states has 3 layers, front=standardize takes one: choose it with"),
        (["streams.speech.front=log_f0"], "states holds 16 channels without names, expected f0 in Hz and voiced"),
    ],
)
def test_what_cannot_be_heard_is_said(store, overrides, message):
    with pytest.raises(SerError, match=message):
        examples_of(store, *overrides)


@pytest.mark.parametrize(("layers", "expected"), [("1", [1]), ("-1", [2]), ("[0,2]", [0, 2]), ("[2,0]", [2, 0])])
def test_layers_that_are_chosen(store, layers, expected):
    examples = examples_of(store, "fusion=none", f"streams.speech.layers={layers}")
    (name,) = examples.streams
    frames = examples.batch(np.array([3])).streams[name].frames[0]
    assert np.array_equal(frames.decode(), store[examples.names[3]]["states", expected])
    model = make_model(examples, load(TrainConfig, [], ["fusion=none", "width=8"]), 0)
    model.fit(examples, examples.names)
    assert model(examples.batch(np.arange(4)))["regression"].shape == (4, 3)
    assert [len(weights) for weights in model.layer_weights().values()] == ([2] if len(expected) > 1 else [])


def test_one_layer_of_many(store, tmp_path):
    config = load(
        TrainConfig, [], [*QUICK, "streams.speech.layers=-1", "baseline=true", "plots=true", f"runs={tmp_path}"]
    )
    folder, results = run(store, config, lambda _: None)
    assert results["models"][0]["layer_weights"] == {}
    assert not (folder / "plots/layer_weights.png").exists()


@pytest.mark.parametrize("normalize", ["train", "speaker", "utterance", "none"])
def test_states_are_standardised_as_numpy_would(store, normalize):
    examples = examples_of(store, "fusion=none", f"streams.speech.front={{name: layer_sum, normalize: {normalize}}}")
    hearing, train = examples.streams["speech"], examples.names[:40]
    module = hearing.front.build(hearing.source)
    module.fit(hearing.source, train)
    speakers = store.utterances["speaker"]
    for name in examples.names[50:53]:
        company = {
            "train": train,
            "speaker": speakers.index[speakers == speakers[name]],
            "utterance": [name],
            "none": [],
        }[normalize]
        frames = store[name]["states"]
        expected = frames.mean(axis=0)
        if len(company):
            together = np.concatenate([store[one]["states"] for one in company], axis=1).astype(np.float64)
            mean, sd = together.mean(axis=1, keepdims=True), together.std(axis=1, keepdims=True)
            expected = ((frames - mean) / sd).mean(axis=0)
        found = module([hearing.front.read(hearing.source, name)]).detach()
        assert np.allclose(found, expected, atol=0.02)  # the statistics are of what was stored, before it was rounded


@pytest.mark.parametrize("normalize", ["train", "speaker", "utterance", "none"])
def test_pitch_is_standardised_as_numpy_would(store, normalize):
    examples = examples_of(store, f"streams.pitch.front={{name: log_f0, normalize: {normalize}}}")
    hearing, train = examples.streams["pitch"], examples.names[:40]
    module = hearing.front.build(hearing.source)
    module.fit(hearing.source, train)
    speakers = store.utterances["speaker"]
    for name in examples.names[50:53]:
        company = {"train": train, "speaker": speakers.index[speakers == speakers[name]]}.get(normalize, [name])
        together = np.concatenate([store[one]["pitch"][0, :, 0] for one in company]).astype(np.float64)
        together = np.log(together[together > 0])
        f0 = store[name]["pitch"][0, :, 0]
        expected = (np.log(np.where(f0 > 0, f0, 1)) - together.mean()) / together.std()
        if normalize == "none":
            expected = f0 / 100
        height, voiced = module([hearing.front.read(hearing.source, name)]).T.numpy()
        assert np.array_equal(voiced, f0 > 0)
        assert np.allclose(height, np.where(f0 > 0, expected, 0), atol=1e-4)


def test_a_speaker_who_is_not_known_has_no_mean(store):
    for front in ("layer_sum", "average", "log_f0"):
        store.utterances.loc["u003", "speaker"] = ""
        stream = "pitch" if front == "log_f0" else "speech"
        with pytest.raises(SerError, match="is to be standardised by speaker, and not every speaker is known"):
            examples_of(
                store,
                "streams={speech: {}, pitch: {}}",
                f"streams.{stream}.front={{name: {front}, normalize: speaker}}",
            )


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("normalize", ["speaker", "corpus"])
def test_an_utterance_that_failed_has_no_say_in_the_statistics_of_its_company(copied, normalize, several):
    def value(name, times):
        return np.random.default_rng(int(name[1:])).normal(int(name[1:]) % 6, 2, (len(times), 2))

    store = add_feature(copied, "mel", 0.01, value=value, failing=("u003", "u009"))
    store.utterances.loc["u003", "speaker"] = ""
    front = f"streams.mel.front={{name: standardize, bound: 100, normalize: {normalize}}}"
    examples = examples_of(Corpora([store]) if several else store, "fusion=none", front)
    hearing = examples.clock
    assert len(examples.names) == 94
    company = [name for name in examples.names if normalize == "corpus" or int(name[-3:]) % 6 == 3]
    found = np.concatenate([hearing.front.read(hearing.source, name).decode()[0] for name in company])
    assert np.allclose(found.mean(axis=0), 0, atol=1e-3)
    assert np.allclose(found.std(axis=0), 1, atol=1e-3)


def test_one_layer_is_standardised_by_channel(copied):
    values = {}

    def value(name, times):
        values[name] = np.random.default_rng(len(values)).normal(3, 5, (len(times), 2)).astype("f4")
        return values[name]

    store = add_feature(copied, "mel", 0.01, value=value)
    examples = examples_of(store, "fusion=none", "streams.mel={}")
    hearing = examples.streams["mel"]
    assert hearing.front.name == "standardize"
    module = hearing.front.build(hearing.source)
    module.fit(hearing.source, examples.names)
    found = np.concatenate([module([hearing.front.read(hearing.source, one)]) for one in examples.names])
    together = np.concatenate([values[one] for one in examples.names])
    assert np.allclose(found, (together - together.mean(axis=0)) / together.std(axis=0), atol=1e-4)


def test_one_value_far_out_does_not_outweigh_the_others(copied):
    def value(name, times):
        values = np.random.default_rng(int(name[1:])).normal(3, 5, (len(times), 2)).astype("f4")
        values[0, 0] += 1e6 * (int(name[1:]) == 3)
        return values

    store = add_feature(copied, "mel", 0.01, value=value)
    for normalize, furthest in (("train", 5), ("none", 1e6)):
        examples = examples_of(store, "fusion=none", f"streams.mel.front={{name: standardize, normalize: {normalize}}}")
        hearing = examples.streams["mel"]
        module = hearing.front.build(hearing.source)
        module.fit(hearing.source, examples.names)
        read = [hearing.front.read(hearing.source, one) for one in examples.names]
        assert float(module(read).max()) == pytest.approx(furthest, rel=1e-4)
        twice = module(read, torch.full((len(read), 2), 2.0))
        assert torch.allclose(twice, 2 * module(read), rtol=1e-5)


def test_streams_of_another_hop_meet_by_time(copied):
    """A ramp keeps its time at every frame of the clock, whatever its own hop and start are."""
    store = add_feature(copied, "ramp", 0.007, first=0.003, value=lambda _, times: np.stack([times, -times], axis=1))
    examples = examples_of(
        store, "fusion=concat", "streams={speech: {}, ramp: {front: {name: standardize, normalize: none}}}"
    )
    for row in (0, 5, 90):
        found, (count,) = heard(examples, "ramp", [row])
        clock = store.feature("states").times(examples.names[row])
        last = store.feature("ramp").times(examples.names[row])[-1]
        assert len(found) == count == len(clock)
        covered = clock < last + 0.0035
        assert np.abs(found[covered, 0] - clock[covered]).max() <= 0.0035 + 1e-6
        assert (found[clock > last + 0.007] == 0).all()


@pytest.mark.parametrize("fusion", ["attention", "concat"])
def test_what_is_said_of_a_whole_utterance_is_repeated(copied, tmp_path, fusion):
    store = add_feature(copied, "functionals", 0.0, frames=1, value=lambda name, _: np.full((1, 2), float(name[1:])))
    streams = "streams={speech: {}, functionals: {front: {name: standardize, normalize: none}}}"
    examples = examples_of(store, f"fusion={fusion}", streams)
    found, lengths = heard(examples, "functionals", [7, 3])
    assert found[:, 0].tolist() == [7] * lengths[0] + [3] * lengths[1]
    _, results = run(
        store, load(TrainConfig, [], [*QUICK, f"fusion={fusion}", streams, f"runs={tmp_path}"]), lambda _: None
    )
    assert results["warnings"] == ["functionals has no clock: a frame is a token, or the whole utterance"]


def test_words_without_times_need_their_own_clock(copied, tmp_path):
    store = add_feature(copied, "words", 0.0, frames=3, layers=2, value=lambda name, _: np.ones((3, 2)))
    words = "streams={speech: {feature: states}, words: {}}"
    for fusion in ("attention", "concat"):
        with pytest.raises(
            SerError,
            match=r"streams\.words: words has no clock, so words and speech cannot meet in time: take front=pooled, or "
            r"fusion=attention with fusion\.clocks=own",
        ):
            examples_of(store, f"fusion={fusion}", words)
    own = "fusion={name: attention, clocks: own}"
    for streams in (words, "streams={words: {}, speech: {feature: states}}"):
        assert run(store, load(TrainConfig, [], [*QUICK, own, streams, f"runs={tmp_path}"]), lambda _: None)
    for fusion in ("attention", "concat"):
        streams = "streams={speech: {feature: states}, words: {front: pooled}}"
        assert examples_of(store, f"fusion={fusion}", streams).names


def without_frames(path, feature):
    """Take away the files of frames of a feature; what is known of each utterance stays."""
    shards = list((path / "features" / feature / "data").rglob("*"))
    files = [file for file in shards if file.is_file() and file.name != "zarr.json"]
    assert files
    for file in files:
        file.unlink()


def test_pooled_reads_no_frame(copied, tmp_path):
    store = featurestore.open(copied)
    names = store.names()
    mean, sd = store.feature("states").pooled(names)
    without_frames(copied, "states")
    with pytest.raises(Exception, match="states"):
        featurestore.open(copied)["u000"]["states"]
    config = load(
        TrainConfig, [], [*QUICK, "fusion=none", "streams.speech.front=pooled", "audit=table", f"runs={tmp_path}"]
    )
    _, results = run(featurestore.open(copied), config, lambda _: None)
    assert len(results["models"][0]["layer_weights"]["speech"]) == 3
    examples = load_examples(featurestore.open(copied), config)
    found, lengths = heard(examples, "speech", range(96))
    assert lengths == [1] * 96
    assert np.allclose(found, np.concatenate([mean, sd], axis=-1).mean(axis=1), atol=1e-5)
    hearing = examples.streams["speech"]
    module = hearing.front.build(hearing.source)
    module.fit(hearing.source, names)
    frames = hearing.front.read_batch(hearing.source, names)
    standard = module(frames).detach()
    vectors = np.concatenate([mean, sd], axis=-1)
    expected = ((vectors - vectors.mean(axis=0)) / np.maximum(vectors.std(axis=0), 1e-3)).mean(axis=1)
    assert np.allclose(standard, expected, atol=1e-4)
    assert torch.equal(module(frames[:1])[0], standard[0])
    kept = torch.rand(standard.shape)
    assert torch.equal(module(frames, kept), standard * kept)


def test_a_stream_that_is_not_used_is_not_read(copied, tmp_path):
    without_frames(copied, "pitch")
    config = load(TrainConfig, [], [*QUICK, "fusion=none", f"runs={tmp_path}"])
    assert run(featurestore.open(copied), config, lambda _: None)
    with pytest.raises(Exception, match="pitch"):
        run(featurestore.open(copied), load(TrainConfig, [], [*QUICK, f"runs={tmp_path}"]), lambda _: None)


def test_a_store_with_two_encoders_asks_which(copied):
    store = add_feature(copied, "other", 0.02, layers=2, value=lambda _, times: np.ones((len(times), 2)))
    with pytest.raises(SerError, match=r"found other, states with hidden states, expected one: choose with streams\."):
        examples_of(store, "fusion=none")
    assert examples_of(store, "fusion=none", "streams.speech.feature=other").names


def test_the_layers_of_a_text_are_not_taken_for_speech(copied):
    store = add_feature(copied, "text", 0, frames=5, layers=2, value=lambda _, times: np.ones((5, 2)))
    assert examples_of(store, "fusion=none").streams["speech"].source.name == "states"
