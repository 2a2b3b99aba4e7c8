"""Contracts: every part of each kind is tested as soon as its file is there."""

import itertools
import json

import numpy as np
import pandas as pd
import pytest
import torch

from featurestore.shared.config import load
from featurestore.shared.errors import SerError
from tests.train.parts import DIM, LENGTHS, check_half, check_learns, check_saves, frames, garbage, mask_of
from train.config import TrainConfig
from train.embeddings import Embedding
from train.examples.examples import load_examples
from train.fronts import Front
from train.fusions import Fusion
from train.fusions.attention import attend
from train.heads import Head
from train.losses import Loss
from train.models.inference import make_model
from train.numerics.sequences import Sequences, pad
from train.poolings import Pooling
from train.poolings.statistics import SMALLEST_VARIANCE
from train.reading.sources import Source
from train.tasks import Task


@pytest.fixture
def mask():
    return mask_of(LENGTHS)


@pytest.mark.parametrize("name", Embedding.names())
def test_embedding(name, mask):
    module = Embedding.kind(name)().build(2, DIM)
    pitch = frames(mask, 2)
    embedded = module(pitch, mask)
    assert embedded.shape == (*mask.shape, Embedding.kind(name)().width_of(2, DIM))
    assert torch.allclose(embedded[mask], module(garbage(pitch, mask), mask)[mask], atol=1e-6)
    for row, length in enumerate(LENGTHS):
        alone = module(pitch[row : row + 1, :length], mask[row : row + 1, :length])
        assert torch.allclose(embedded[row, :length], alone[0], atol=1e-5)
    check_learns(module, embedded[mask])
    check_saves(lambda: Embedding.kind(name)().build(2, DIM), module, pitch, mask)
    check_half(module, pitch, mask)


def streams_of(values, mask):
    return {f"s{number}": Sequences(one, mask) for number, one in enumerate(values)}


def takes(name):
    """Return how many streams a fusion takes."""
    return range(Fusion.kind(name).least, (Fusion.kind(name).most or 9) + 1)


@pytest.mark.parametrize(
    ("name", "count"), [(n, c) for n, c in itertools.product(Fusion.names(), (1, 2, 3)) if c in takes(n)]
)
def test_fusion(name, count, mask):
    kind = Fusion.kind(name)
    widths = {f"s{number}": DIM for number in range(count)}
    fusion = kind().on_clocks(dict.fromkeys(widths, 0.02))
    module = fusion.build(widths).eval()
    values = [frames(mask, DIM, number) for number in range(count)]
    fused = module(streams_of(values, mask))
    heard = torch.ones(len(LENGTHS), 1, dtype=torch.bool) if kind.pools else mask
    assert fused.values.shape == (*heard.shape, module.dim)
    assert torch.equal(fused.mask, heard)
    polluted = module(streams_of([garbage(one, mask) for one in values], mask))
    assert torch.allclose(fused.values[heard], polluted.values[heard], atol=1e-5)
    for row, length in enumerate(LENGTHS):
        alone = module(streams_of([one[row : row + 1, :length] for one in values], mask[row : row + 1, :length]))
        assert torch.allclose(fused.values[row][heard[row]], alone.values[0], atol=1e-5)
    for number in range(count):  # each stream is heard
        other = module(streams_of([one + (place == number) for place, one in enumerate(values)], mask))
        assert not torch.equal(fused.values[heard], other.values[heard])
    check_learns(module, fused.values[heard])
    check_saves(lambda: fusion.build(widths), module, streams_of(values, mask))
    check_half(module, streams_of(values, mask))


def test_plain_attention_is_that_of_system_0(mask):
    """Without the residual: the pitch only chooses which audio is heard, so equal frames give equal answers."""
    module = Fusion.kind("attention")(residual=False).build({"speech": DIM, "pitch": DIM})
    audio = frames(mask, DIM)[:, :1].expand(-1, mask.shape[1], -1)
    fused = module(streams_of([audio, frames(mask, DIM, 1)], mask)).values
    assert torch.allclose(fused[0], fused[0, :1].expand_as(fused[0]), atol=1e-5)


@pytest.mark.parametrize("padded", [True, False])
def test_attention_is_that_of_the_module_of_torch(mask, padded):
    mask = mask if padded else torch.ones_like(mask)
    module = torch.nn.MultiheadAttention(DIM, 4, batch_first=True)
    query, values = (frames(mask, DIM, seed).requires_grad_() for seed in (1, 2))
    found = attend(module, query, Sequences(values, mask))
    expected, _ = module(query, values, values, key_padding_mask=~mask, need_weights=False)
    assert torch.equal(found[mask], expected[mask])
    inputs = [query, values, *module.parameters()]
    for mine, theirs in zip(*(torch.autograd.grad(one[mask].sum(), inputs) for one in (found, expected)), strict=True):
        assert torch.allclose(mine, theirs, atol=1e-6)


def test_attention_of_two_clocks_gives_that_of_the_query(mask):
    module = Fusion.kind("attention")(clocks="own").build({"speech": DIM, "text": DIM})
    words = torch.arange(3) < torch.tensor([3, 1, 2])[:, None]
    speech, text = frames(mask, DIM), frames(words, DIM, 1)
    fused = module({"speech": Sequences(speech, mask), "text": Sequences(text, words)})
    assert torch.equal(fused.mask, words)
    polluted = module(
        {"speech": Sequences(garbage(speech, mask), mask), "text": Sequences(garbage(text, words), words)}
    )
    assert torch.allclose(fused.values[words], polluted.values[words], atol=1e-5)


def test_the_gated_unit_by_hand(mask):
    """For two streams: z * tanh(W1 x1) + (1 - z) * tanh(W2 x2), z the sigmoid of what both say, in numpy."""
    torch.manual_seed(0)
    module = Fusion.kind("gated")().build({"a": 3, "b": 3})
    values = [frames(mask, 3, seed) for seed in (0, 1)]
    first, second = (value[0].double().numpy() for value in values)
    maps = [(one.weight.detach().double().numpy(), one.bias.detach().double().numpy()) for one in module.maps]
    weight, bias = module.gates.weight.detach().double().numpy(), module.gates.bias.detach().double().numpy()
    asked = np.concatenate([first, second], axis=1) @ (weight[:3] - weight[3:]).T + bias[:3] - bias[3:]
    z = 1 / (1 + np.exp(-asked))
    mapped = [np.tanh(value @ w.T + b) for value, (w, b) in zip((first, second), maps, strict=True)]
    expected = z * mapped[0] + (1 - z) * mapped[1]
    assert np.allclose(module(streams_of(values, mask)).values[0].detach(), expected, atol=1e-6)


def test_the_scalar_mix_begins_as_the_mean_and_is_between_its_streams(mask):
    module = Fusion.kind("scalar_mix")().build({"a": DIM, "b": DIM})
    first, second = frames(mask, DIM), frames(mask, DIM, 1)
    assert torch.allclose(module(streams_of([first, second], mask)).values, (first + second) / 2, atol=1e-6)
    with torch.no_grad():
        module.logits.copy_(torch.tensor([3.0, 1.0]))
    a = 1 / (1 + np.exp(-2))
    assert torch.allclose(module(streams_of([first, second], mask)).values, a * first + (1 - a) * second, atol=1e-5)


def test_means_are_repeated_on_every_frame(mask):
    """Of a stream with a clock of its own, over its own frames alone."""
    words = torch.arange(3) < torch.tensor([3, 1, 2])[:, None]
    speech, text = frames(mask, DIM), garbage(frames(words, 4, 1), words)
    fused = Fusion.kind("repeat_concat")().build({"a": DIM, "b": 4})(
        {"a": Sequences(speech, mask), "b": Sequences(text, words)}
    )
    assert torch.equal(fused.values[..., :DIM], speech)
    assert torch.allclose(fused.values[2, :, DIM:], text[2, :2].mean(dim=0).expand(9, -1), atol=1e-6)


def test_film_by_hand(mask):
    module = Fusion.kind("film")().build({"a": 2, "b": 3})
    first, second = frames(mask, 2), frames(mask, 3, 1)
    weight, bias = module.conditions.weight, module.conditions.bias
    scale, shift = second @ weight[:2].T + bias[:2], second @ weight[2:].T + bias[2:]
    found = module(streams_of([first, second], mask)).values
    assert torch.allclose(found, first + scale * first + shift, atol=1e-6)


def test_streams_hear_each_other_through_the_tokens_alone(mask):
    """In the first layer the tokens hear the streams, in the second the streams hear the tokens."""
    values = [frames(mask, DIM, seed) for seed in (0, 1)]
    for layers, hears in ((1, False), (2, True)):
        module = Fusion.kind("bottleneck")(layers=layers).build({"a": DIM, "b": DIM}).eval()
        other = [values[0], values[1] + mask[..., None]]
        first, changed = (module(streams_of(one, mask)).values[..., :DIM] for one in (values, other))
        assert torch.allclose(first[mask], changed[mask], atol=1e-7) is not hears


@pytest.mark.parametrize("name", ["scalar_mix", "gated", "cross_attention", "co_attention", "bottleneck"])
def test_fusions_of_one_width(name):
    with pytest.raises(SerError, match=f"fusion={name} takes streams of one width, found 16, 8"):
        Fusion.kind(name)().build({"speech": DIM, "pitch": 8})


def test_widths_that_do_not_fit_are_refused():
    with pytest.raises(SerError, match=r"heads \(5\) must divide .* \(16\)"):
        Fusion.kind("attention")(heads=5).build({"speech": DIM, "pitch": DIM})
    with pytest.raises(SerError, match="takes streams of one width, found 16, 8"):
        Fusion.kind("attention")().build({"speech": DIM, "pitch": 8})
    with pytest.raises(SerError, match=r"clocks=own takes one stream beside the first, found 2"):
        Fusion.kind("attention")(clocks="own").build({"speech": DIM, "pitch": DIM, "text": DIM})


POOLINGS = {"chunks": {"frames": 4}}
"""Settings that a pooling needs, which has no clock in these tests."""


def pooling_of(name):
    return Pooling.kind(name)(**POOLINGS.get(name, {})).build(DIM)


@pytest.mark.parametrize("name", Pooling.names())
def test_pooling(name, mask):
    module = pooling_of(name).eval()
    values = frames(mask, DIM).requires_grad_()
    pooled = module(values, mask)
    assert pooled.shape == (len(LENGTHS), module.dim)
    assert torch.allclose(pooled, module(garbage(values, mask), mask), atol=1e-4)
    for row, length in enumerate(LENGTHS):
        alone = module(values[row : row + 1, :length], mask[row : row + 1, :length])
        assert torch.allclose(pooled[row], alone[0], atol=1e-5)
    check_learns(module, pooled)
    if Pooling.kind(name).weighs:
        assert torch.allclose(module.weights(values, mask).sum(dim=1), torch.ones(len(LENGTHS)))
        assert (module.weights(values, mask)[~mask] == 0).all()
    if values.grad is None:
        pooled.square().sum().backward()
    assert values.grad.isfinite().all()
    assert (values.grad[~mask] == 0).all()
    check_saves(lambda: pooling_of(name), module, values.detach(), mask)
    if name != "lstm":  # one of oneDNN, which takes bfloat16 on some processors alone
        check_half(module, values.detach(), mask)


def test_poolings_by_hand(mask):
    values = frames(mask, DIM)
    mean = values[1, :4].mean(dim=0)
    assert torch.allclose(Pooling.kind("mean")().build(DIM)(values, mask)[1], mean, atol=1e-6)
    assert torch.allclose(Pooling.kind("attention")().build(DIM)(values, mask)[1], mean, atol=1e-6)
    both = Pooling.kind("statistics")().build(DIM)(values, mask)
    assert torch.allclose(both[1, DIM:], values[1, :4].std(dim=0, correction=0), atol=1e-5)
    assert torch.allclose(both[2, DIM:], torch.full((DIM,), SMALLEST_VARIANCE**0.5), atol=1e-6)


def test_maximum_and_last_frame_by_hand(mask):
    values = frames(mask, DIM)
    assert torch.equal(Pooling.kind("max")().build(DIM)(values, mask)[1], values[1, :4].amax(dim=0))
    assert torch.equal(Pooling.kind("last")().build(DIM)(values, mask)[1], values[1, 3])


def test_the_pyramid_by_hand(mask):
    """The whole, its halves and its quarters; of an utterance of one frame all parts are that frame."""
    values = frames(mask, 2)
    found = Pooling.kind("pyramid")().build(2)(values, mask)
    bounds = [(0, 9), (0, 5), (4, 9), (0, 3), (2, 5), (4, 7), (6, 9)]
    expected = np.concatenate([values[0, begin:end].numpy().mean(axis=0) for begin, end in bounds])
    assert np.allclose(found[0], expected, atol=1e-6)
    four = [(0, 4), (0, 2), (2, 4), (0, 1), (1, 2), (2, 3), (3, 4)]
    assert np.allclose(found[1], np.concatenate([values[1, a:b].numpy().mean(axis=0) for a, b in four]), atol=1e-6)
    assert torch.allclose(found[2], values[2, 0].repeat(7), atol=1e-6)
    whole = torch.ones_like(mask)
    levels = [torch.nn.functional.adaptive_avg_pool1d(values.transpose(1, 2), parts) for parts in (1, 2, 4)]
    library = torch.cat([level.transpose(1, 2).flatten(1) for level in levels], dim=1)
    assert torch.allclose(Pooling.kind("pyramid")().build(2)(values, whole), library, atol=1e-6)
    assert Pooling.kind("pyramid")(levels=(1, 3)).build(2).dim == 8


def test_attentive_statistics_by_hand(mask):
    torch.manual_seed(0)
    module, values = Pooling.kind("attentive_statistics")(hidden=3).build(DIM), frames(mask, DIM)
    torch.nn.init.normal_(module.score.weight)
    (first, _), given = module.before, values[1, :4].double().numpy()
    weight, bias, score = (one.detach().double().numpy() for one in (first.weight, first.bias, module.score.weight))
    scores = np.exp(np.tanh(given @ weight.T + bias) @ score[0])
    shares = scores[:, None] / scores.sum()
    mean = (shares * given).sum(axis=0)
    sd = np.sqrt((shares * given**2).sum(axis=0) - mean**2)
    assert np.allclose(module(values, mask)[1].detach(), np.concatenate([mean, sd]), atol=1e-4)


@pytest.mark.parametrize("name", Head.names())
def test_head(name):
    module, vectors = Head.kind(name)().build(DIM, 3), frames(torch.ones(1, 5), DIM)[0]
    found = module(vectors)
    assert found.shape == (5, 3)
    check_learns(module, found)
    check_saves(lambda: Head.kind(name)().build(DIM, 3), module, vectors)
    check_half(module, vectors)
    assert torch.allclose(module(vectors)[2], module(vectors[2:3])[0], atol=1e-6)


@pytest.mark.parametrize("name", Loss.names())
def test_loss_is_lowest_for_the_truth(name):
    loss = Loss.kind(name)()
    torch.manual_seed(0)
    if loss.task == "regression":
        true = torch.rand(8, 2)
        right, wrong = true.clone(), torch.rand(8, 2, requires_grad=True)
    elif loss.task == "votes":
        true = torch.rand(8, 3).softmax(dim=-1)
        right, wrong = true.log(), torch.rand(8, 3, requires_grad=True)
    else:
        true = torch.arange(8) % 3
        right, wrong = 20 * torch.nn.functional.one_hot(true).float(), torch.rand(8, 3, requires_grad=True)
    assert loss(right, true) == pytest.approx(0, abs=1e-6)
    given = wrong.detach()
    assert loss(given, true) > 0.005
    assert loss(given, true) == loss(given, true)
    assert loss(given.bfloat16().float(), true) == pytest.approx(float(loss(given, true)), rel=0.05)
    loss(wrong, true).backward()
    assert torch.isfinite(wrong.grad).all()
    assert torch.equal(loss.of_classes(["0", "1", "2"], torch.tensor([3, 3, 2]))(given, true), loss(given, true))


REGRESSIONS = [name for name in Loss.names() if Loss.kind(name).task == "regression" and name != "ccc_mse"]  # a sum


@pytest.mark.parametrize("name", REGRESSIONS)
def test_a_label_that_is_missing_counts_for_no_loss(name):
    loss = Loss.kind(name)()
    torch.manual_seed(0)
    true, predicted = torch.rand(9, 2), torch.rand(9, 2, requires_grad=True)
    true[3:6, 1] = torch.nan
    there = torch.ones(9, dtype=torch.bool)
    there[3:6] = False
    found = loss(predicted, true)
    found.backward()
    assert predicted.grad.isfinite().all()
    assert (predicted.grad[3:6, 1] == 0).all()
    of_each = loss(predicted[:, :1], true[:, :1]), loss(predicted[there][:, 1:], true[there][:, 1:])
    shares = {"mse": (9, 6), "mae": (9, 6)}.get(name, (1, 1))
    expected = sum(share * one for share, one in zip(shares, of_each, strict=True)) / sum(shares)
    assert float(found.detach()) == pytest.approx(float(expected.detach()), abs=1e-6)
    nothing = predicted.detach().requires_grad_()
    loss(nothing, torch.full_like(true, torch.nan)).backward()
    assert (nothing.grad == 0).all()


FRONTS = {"log_f0": ("pitch", None), "standardize": ("states", 1)}
"""Which feature, and layers of it, a front hears in these tests; otherwise all of the states."""


def front_of(name, store):
    feature, layers = FRONTS.get(name, ("states", None))
    source = Source(store.feature(feature), layers, {"speaker": store.utterances["speaker"]})
    return Front.kind(name)(), source


@pytest.mark.parametrize("name", Front.names())
def test_front(name, store):
    front, source = front_of(name, store)
    names = store.names()[:5]
    front.check(source)
    assert front.survey(source, names) == []
    read = [front.read(source, one) for one in names]
    module = front.build(source)
    module.fit(source, names)
    found = module(read)
    counts = [source.part.frames(one) if front.keeps_time else 1 for one in names]
    assert found.shape == (sum(counts), module.dim)
    assert found.isfinite().all()
    end = 0
    for one, count in zip(read, counts, strict=True):
        assert torch.allclose(found[end : end + count], module([one]), atol=1e-5)
        end += count
    assert module.dim == DIM * (2 if name == "pooled" else 1) or name == "log_f0"
    if module.layer_weights() is not None:
        assert module.layer_weights().sum() == pytest.approx(1)
    check_learns(module, found)
    check_saves(lambda: front.build(source), module, read)
    assert torch.allclose(pad(found, torch.tensor(counts)).values.sum(), found.sum(), atol=1e-2)


def with_votes(table):
    """Return a table in which two of three raters also name the emotion of the label."""
    rated = [
        [
            {**rater, "emotion": said}
            for rater, said in zip(json.loads(ratings), (emotion, emotion, "calm"), strict=True)
        ]
        for ratings, emotion in zip(table["ratings"], table["emotion"], strict=True)
    ]
    return table.assign(ratings=list(map(json.dumps, rated)))


def test_the_layers_that_count_are_chosen_among_all(store):
    """In the beginning all of them; a gradient reaches those that do not count, too."""
    _, source = front_of("layer_sum", store)
    module = Front.kind("layer_sum")(top=2).build(source)
    assert module.layer_weights().tolist() == pytest.approx([1 / 3] * 3)
    with torch.no_grad():
        module.layers.logits.copy_(torch.tensor([0.1, 0.0, 0.2]))
    shares = np.exp([0.1, 0.2])
    weights = module.layer_weights()
    assert weights[[0, 2]].tolist() == pytest.approx(shares / shares.sum(), rel=1e-5)
    assert weights[1] == 0
    names = store.names()[:2]
    found = module([Front.kind("layer_sum")(top=2).read(source, name) for name in names])
    found.square().sum().backward()
    assert (module.layers.logits.grad != 0).all()
    with pytest.raises(SerError, match=r"states has 3 layers, found front\.top=4"):
        Front.kind("layer_sum")(top=4).check(source)


@pytest.mark.parametrize("name", Task.names())
def test_task(name, rated_store):
    task, store = Task.kind(name)(), rated_store
    table = with_votes(store.utterances)
    goal = task.learn(table, store.ranges, "the store")
    again = task.goal(goal.described())
    targets = goal.targets(table)
    assert torch.equal(targets, again.targets(table))
    assert set(goal.missing(targets)) == set(goal.metrics)
    assert not any(there.any() for there in goal.missing(targets).values())
    torch.manual_seed(0)
    output = torch.randn(len(table), goal.outputs, requires_grad=True)
    goal.loss(output, targets).backward()
    assert output.grad.isfinite().all()
    assert (output.grad != 0).any()
    members = goal.represent(torch.stack([output.detach()] * 3))
    figures = goal.figures(targets, members[0], np.zeros(len(table), np.int64))
    assert set(figures) == set(goal.metrics)
    assert all(-1 <= float(metric(sums[0])) <= 1 for sums, metric in figures.values())
    assert set(goal.decode(members[0])) == set(goal.metrics) == set(goal.truth(table))
    assert len(goal.spread(members)) == len(goal.metrics)
    parts = {"train": targets[:50], "dev": targets[50:70], "test": targets[70:]}
    assert goal.check([parts]) == []


@pytest.mark.parametrize("name", Task.names())
def test_what_has_no_label_changes_nothing_of_a_task(name, rated_store):
    task, store = Task.kind(name)(), rated_store
    table = with_votes(store.utterances)
    goal = task.learn(table, store.ranges, "the store")
    whole = table.iloc[:60]
    for column in task.columns:
        table[column] = table[column].astype(object).where(np.arange(96) < 60, None)
        table[column] = pd.to_numeric(table[column]) if column in "VAD" else table[column]
    targets, known = goal.targets(table), goal.targets(whole)
    assert all(there.tolist() == [False] * 60 + [True] * 36 for there in goal.missing(targets).values())
    torch.manual_seed(0)
    output = torch.randn(96, goal.outputs)
    assert float(goal.loss(output, targets)) == pytest.approx(float(goal.loss(output[:60], known)), abs=1e-6)
    groups = np.arange(96) % 6
    for target, (sums, metric) in goal.figures(targets, goal.represent(output), groups).items():
        other, _ = goal.figures(known, goal.represent(output[:60]), groups[:60])[target]
        assert float(metric(sums.sum(axis=0))) == pytest.approx(float(metric(other.sum(axis=0))), abs=1e-9)
    nothing = torch.randn(36, goal.outputs, requires_grad=True)
    loss = goal.loss(nothing, targets[60:])
    loss.backward()
    assert loss.item() == 0
    assert (nothing.grad == 0).all()


@pytest.mark.parametrize("fusion", Fusion.names())
def test_an_utterance_alone_is_predicted_as_in_a_batch(fusion, store):
    config = load(TrainConfig, [], [f"fusion={fusion}", "width=16", "targets=[V,emotion]"])
    examples = load_examples(store, config)
    model = make_model(examples, config, 0).eval()
    model.fit(examples, examples.names)
    rows = np.array([4, 7, 50])
    together = model(examples.batch(rows))
    assert {task: tuple(found.shape) for task, found in together.items()} == {"regression": (3, 1), "emotion": (3, 3)}
    for place, row in enumerate(rows):
        for task, found in model(examples.batch(np.array([row]))).items():
            assert torch.allclose(found[0], together[task][place], atol=1e-5)


def test_initial_weights_are_those_of_the_seed(store):
    config = load(TrainConfig, [], ["width=16"])
    examples = load_examples(store, config)
    first = make_model(examples, config, 1).state_dict()
    torch.rand(7)
    same, other = (make_model(examples, config, seed).state_dict() for seed in (1, 2))
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("name", ["a.b", "keys", "type", "training", "requires_grad", "ä b", "%2E", "forward"])
def test_streams_and_targets_may_have_any_name(store, name):
    store.utterances[name] = store.utterances["emotion"]
    streams = {name: {"feature": "states"}, "pitch": {}}
    config = TrainConfig.model_validate({"streams": streams, "targets": [name, "V"], "weights": "learned", "width": 8})
    examples = load_examples(store, config)
    model = make_model(examples, config, 0)
    assert set(model(examples.batch(np.arange(3)))) == {name, "regression"}
    assert list(model.layer_weights()) == [name]
    assert model.log_variances.tolist() == [0, 0]
