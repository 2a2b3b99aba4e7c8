"""Augmentations: of training steps alone, by the model's own seed, and by hand."""

from dataclasses import replace
from hashlib import sha256

import numpy as np
import pytest
import torch

from featurestore.shared.config import load
from featurestore.shared.errors import ConfigError, SerError
from train.augmentations import Augmentation, Heard
from train.augmentations.mixup import Mixup, of_partners
from train.config import TrainConfig
from train.examples.clock import pooled_hop, pooled_times
from train.examples.examples import load_examples
from train.models.inference import make_model
from train.models.training import Training
from train.numerics.sequences import Packed
from train.running.run import run

LENGTHS = torch.tensor([9, 4, 1])


def packed_of(seed=0, dim=6):
    generator = torch.Generator().manual_seed(seed)
    return Packed(torch.randn(int(LENGTHS.sum()), dim, generator=generator), LENGTHS)


def examples_of(store, *overrides):
    config = load(TrainConfig, [], ["width=8", "targets=[V]", "fusion=concat", *overrides])
    return load_examples(store, config), config


def changed(store, augment, seed):
    """Return what a model hears in a training step, and what it hears otherwise."""
    examples, config = examples_of(store, f"augment={augment}", "streams={speech: {dropout: 0}, pitch: {}}")
    model, batch = make_model(examples, config, 0), examples.batch(np.array([3, 50, 51]))
    torch.manual_seed(seed)
    return model.train().hear(batch), model.eval().hear(batch)


@pytest.mark.parametrize("name", Augmentation.names())
def test_augmentation(name, store):
    """It changes training steps alone, as the seed says, and leaves a gradient that is finite."""
    augment = "[{name: time_crop, seconds: 0.3}]" if name == "time_crop" else f"[{name}]"
    heard, predicted = changed(store, augment, 0)
    same, _ = changed(store, augment, 0)
    others = [changed(store, augment, seed)[0] for seed in range(1, 6)]
    for stream in ("speech", "pitch"):
        values = heard.streams[stream].values
        assert torch.equal(values, same.streams[stream].values)
        assert values.isfinite().all()
    assert torch.equal(heard.streams["speech"].lengths, predicted.streams["speech"].lengths)
    speech = [one.streams["speech"].values for one in (heard, *others)]
    assert any(not torch.equal(speech[0], other) for other in speech[1:])
    assert any(not torch.equal(one, predicted.streams["speech"].values) for one in speech)


@pytest.mark.parametrize("name", [name for name in Augmentation.names() if name != "time_crop"])
def test_what_is_predicted_is_heard_whole(name, store):
    examples, config = examples_of(store, f"augment=[{name}]")
    with_it, without = (
        make_model(examples, config.model_copy(update={"augment": augment}), 0).eval()
        for augment in (config.augment, ())
    )
    batch = examples.batch(np.arange(5))
    assert torch.equal(with_it(batch)["regression"], without(batch)["regression"])


def test_the_middle_is_predicted_and_any_part_trains(store):
    """Both streams are cut at the same times, and meet as the whole utterance has them."""
    crop = "augment=[{name: time_crop, seconds: 0.2}]"
    examples, config = examples_of(store, crop)
    whole = examples.batch(np.array([3, 50]))
    model = make_model(examples, config, 0)
    (augment,) = config.augment
    begins = set()
    for training in (False, True, True, True):
        spans = [augment.span(length, 0.02, training) for length in whole.streams["speech"].lengths]
        assert all(end - begin == 10 for begin, end in spans)
        begins.add(tuple(begin for begin, _ in spans))
        cut = whole.cut(spans)
        for name, stream in zip(model.heard, model.streams, strict=True):
            stream.eval()
            uncut, part = (one.align(stream.front(one.frames)) for one in (whole.streams[name], cut.streams[name]))
            ends = np.cumsum([0, *whole.streams[name].lengths])
            for number, (begin, end) in enumerate(spans):
                expected = uncut[ends[number] + begin : ends[number] + end]
                assert torch.allclose(part[10 * number : 10 * number + 10], expected, atol=1e-5)
    lengths = whole.streams["speech"].lengths
    assert tuple((length - 10) // 2 for length in lengths) in begins
    assert len(begins) > 2
    assert augment.span(7, 0.02, True) == (0, 7)


@pytest.mark.parametrize("fusion", ["concat", "attention"])
def test_an_utterance_that_is_cut_is_predicted_alone_as_in_a_batch(store, fusion):
    examples, config = examples_of(store, "augment=[{name: time_crop, seconds: 0.5}]", f"fusion={fusion}")
    model = make_model(examples, config, 0).eval()
    rows = np.array([4, 7, 50])
    together = model(examples.batch(rows))["regression"]
    for place, row in enumerate(rows):
        assert torch.allclose(model(examples.batch(np.array([row])))["regression"][0], together[place], atol=1e-5)


def test_mixup_by_hand():
    """Frame by frame from the beginning; where the other one has ended there is nothing of it."""
    packed = packed_of()
    long, middle, short = packed.values.split(LENGTHS.tolist())
    found = of_partners(packed, torch.tensor([1, 2, 0])).split(LENGTHS.tolist())
    assert torch.equal(found[0], torch.cat([middle, torch.zeros(5, 6)]))
    assert torch.equal(found[1], torch.cat([short, torch.zeros(3, 6)]))
    assert torch.equal(found[2], long[:1])
    batch = type("Three", (), {"rows": np.arange(3)})()
    torch.manual_seed(0)
    mixed = Mixup(alpha=1.0).change(Heard(batch, {"a": packed, "b": packed}))
    assert 0 < mixed.mix.share < 1
    expected = mixed.mix.share * packed.values + (1 - mixed.mix.share) * of_partners(packed, mixed.mix.partners)
    for stream in mixed.streams.values():
        assert torch.equal(stream.values, expected)


def test_both_labels_of_a_mix_count(store):
    """The loss of a step is the sum of both, which for the cross-entropy is that of the mixed labels."""
    examples, config = examples_of(store, "targets=[emotion]", "augment=[{name: mixup, alpha: 1}]")
    training = Training(examples, config, examples.names, [], 1, 0)
    batch = examples.batch(np.arange(12))
    torch.manual_seed(3)
    heard = training.model.train().hear(batch)
    outputs = training.model.decide(training.model.encode(heard))
    found = training._mixed_loss(outputs, batch.targets, heard.mix)
    one_hot = torch.nn.functional.one_hot(batch.targets["emotion"], 3).float()
    labels = heard.mix.share * one_hot + (1 - heard.mix.share) * one_hot[heard.mix.partners]
    expected = torch.nn.functional.cross_entropy(outputs["emotion"], labels)
    assert float(found.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)


def test_some_steps_are_not_mixed():
    heard = Heard(type("Three", (), {"rows": np.arange(3)})(), {"a": packed_of()})
    torch.manual_seed(0)
    mixed = [Mixup(steps=0.25).change(heard).mix is not None for _ in range(400)]
    assert np.mean(mixed) == pytest.approx(0.25, abs=0.08)


def augmented(name, **settings):
    """Return what one does to frames that are all one, by utterance."""
    ones = Packed(torch.ones(int(LENGTHS.sum()), 20), LENGTHS)
    part = Augmentation.kind(name).model_validate({"name": name, **settings})
    return part.changed(ones).split(LENGTHS.tolist())


def test_stretches_and_bands_are_as_wide_as_they_may_be():
    widest_time = widest_band = 0
    torch.manual_seed(0)
    for _ in range(200):
        found = augmented("specaugment", times=1, frames=3, bands=1, channels=4)
        for one, length in zip(found, LENGTHS.tolist(), strict=True):
            frames = int((one == 0).all(dim=1).sum())
            bands = int((one == 0).all(dim=0).sum())
            assert frames <= min(3, length // 2)
            assert bands <= 4
            widest_time, widest_band = max(widest_time, frames), max(widest_band, bands)
            gone = torch.nonzero((one == 0).all(dim=1))[:, 0]
            assert gone.tolist() == list(range(int(gone[0]), int(gone[0]) + len(gone))) if len(gone) else True
    assert (widest_time, widest_band) == (3, 4)


def test_as_much_is_left_out_as_asked_for():
    torch.manual_seed(0)
    zeros = [(one == 0).all(dim=1).float().mean() for _ in range(300) for one in augmented("frame_dropout", share=0.3)]
    assert np.mean(zeros) == pytest.approx(0.3, abs=0.04)
    noisy = [(one != 1).any(dim=1) for _ in range(200) for one in augmented("noise", sd=0.5, share=0.4)]
    assert all(one.all() or not one.any() for one in noisy)
    assert np.mean([bool(one.all()) for one in noisy]) == pytest.approx(0.4, abs=0.06)
    values = torch.cat([torch.cat(augmented("noise", sd=0.5)) for _ in range(50)])
    assert float(values.std()) == pytest.approx(0.5, rel=0.05)


def test_one_stream_is_always_heard():
    heard = Heard(None, {"a": packed_of(), "b": packed_of(1)})
    torch.manual_seed(0)
    left_out = 0
    for _ in range(100):
        found = Augmentation.kind("stream_dropout")(share=0.9).change(heard)
        silent = [[not one.any() for one in stream.values.split(LENGTHS.tolist())] for stream in found.streams.values()]
        assert not any(all(both) for both in zip(*silent, strict=True))
        left_out += sum(map(sum, silent))
    assert left_out > 200


def test_streams_are_chosen_by_name(store):
    for augment, same in (
        ("{name: noise, streams: [pitch]}", "speech"),
        ("{name: frame_dropout, streams: []}", "pitch"),
    ):
        heard, predicted = changed(store, f"[{augment}]", 0)
        assert torch.equal(heard.streams[same].values, predicted.streams[same].values)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["augment=[{name: noise, streams: [piche]}]"], "augment: noise is of piche; the streams are speech, pitch"),
        (["augment=[stream_dropout]", "fusion=none"], "stream_dropout needs two or more streams, found speech"),
        (
            ["augment=[stream_dropout]", "streams={speech: {}, pitch: {}}", "fusion=multiscale"],
            "stream_dropout gives zeros of a stream, and fusion=multiscale is told which are absent: take fusion.lost",
        ),
        (["augment=[time_crop]", "fusion=repeat_concat"], "time_crop needs streams on one clock, with fusion=repeat_"),
    ],
)
def test_augmentations_that_cannot_be(store, overrides, message):
    with pytest.raises(SerError, match=message):
        make_model(*examples_of(store, *overrides), 0)


def test_mixup_beside_adaptation_is_refused():
    with pytest.raises(ConfigError, match="mixup leaves no utterance of one class, which lmmd compares"):
        load(TrainConfig, [], ["augment=[mixup]", "lmmd={}"])
    with pytest.raises(ConfigError, match="did you mean 'mixup'"):
        load(TrainConfig, [], ["augment=[mixupp]"])


ALL = "augment=[mixup, {name: time_crop, seconds: 0.4}, specaugment, noise, frame_dropout, stream_dropout]"


def test_a_model_with_all_augmentations_has_the_same_bits_in_any_company(store, tmp_path):
    """Alone, after other draws, and among other folds and members."""
    settings = ["splits.k=3", "width=8", "optim.epochs=2", "plots=false", "baseline=false", ALL, "targets=[V,emotion]"]
    settings += ["streams.speech={temporal: {name: conformer, width: 8, hidden: 8, dropout: 0.2}}"]
    found = []
    for number, extra in enumerate((["folds=[1]", "workers=1"], ["folds=[0,1]", "members=2", "workers=1"])):
        torch.rand(7 + number)
        folder, _ = run(store, load(TrainConfig, [], [*settings, *extra, f"runs={tmp_path}"]), lambda _: None)
        found.append(
            [
                sha256((folder / part / "fold_1_member_0.safetensors").read_bytes()).hexdigest()
                for part in ("models", "outputs")
            ]
        )
    assert found[0] == found[1]


def test_training_goes_on_as_if_it_had_not_stopped(store):
    """Put down after an epoch and taken up by another, with the statistics of batch normalisation."""
    examples, config = examples_of(store, ALL, "streams.speech={temporal: {name: mel_cnn, channels: [2]}}")
    whole, first, second = (
        Training(examples, config, examples.names[:48], examples.names[48:], 2, 5) for _ in range(3)
    )
    for _ in range(2):
        whole.epoch()
    first.epoch()
    tensors, note = first.state()
    torch.rand(3)
    second.resume(tensors, note)
    second.epoch()
    mine, theirs = (one.model.state_dict() for one in (whole, second))
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_a_batch_is_not_changed_in_place(store):
    examples, _ = examples_of(store)
    batch = examples.batch(np.arange(3))
    before = [one.values.copy() for one in batch.streams["speech"].frames]
    batch.cut([(1, 4)] * 3)
    assert all(np.array_equal(a, b.values) for a, b in zip(before, batch.streams["speech"].frames, strict=True))
    assert replace(batch).streams["speech"].lengths == batch.streams["speech"].lengths


def test_weights_over_time_lie_where_the_frames_are(store):
    """Of the middle of an utterance, one frame for two: each has the time of the first that it is of."""
    crop = "augment=[{name: time_crop, seconds: 0.22}]"
    examples, config = examples_of(store, crop, "fusion=none", "streams.speech.temporal={name: mel_cnn, channels: [2]}")
    name = examples.names[3]
    times = store.feature("states").times(name)
    begin = (len(times) - 11) // 2
    model = make_model(examples, config, 0).eval()
    frames, _ = model.streams[0](model.hear(examples.batch(np.array([3]))).batch.streams["speech"])
    found, known = pooled_times(examples.streams, config, name)
    assert known
    assert pooled_hop(examples.streams, config) == pytest.approx(0.04)
    assert len(found) == frames.shape[1]
    assert found.tolist() == times[begin : begin + 11 : 2].tolist()
