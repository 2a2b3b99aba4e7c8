"""Weights of the layers for each target of its own, in one model: each target is predicted from its own sum."""

import numpy as np
import pytest
import torch

import featurestore
from featurestore.shared.config import load
from tests.train.test_streams import add_feature
from train.config import TrainConfig
from train.examples.examples import load_examples
from train.models.inference import make_model, predict
from train.running.run import run
from train.sweep.config import SweepConfig
from train.sweep.folder import SweepFolder
from train.sweep.report import write_report
from train.sweep.report.tables import Findings
from train.sweep.running import begin, run_sweep

PER_TARGET = "streams.speech.front={name: layer_sum, per_target: true}"
LOGITS = torch.tensor([[0.0, 1.0, -1.0], [2.0, 0.0, 0.0], [-1.0, 0.5, 0.3], [0.0, 0.0, 1.0]])


def made(store, *overrides):
    """Return a model that has heard the store's statistics, and its examples."""
    config = load(TrainConfig, [], ["width=8", *overrides])
    examples = load_examples(store, config)
    model = make_model(examples, config, 0).eval()
    model.fit(examples, examples.names)
    return model, examples


def shared_like(model, store, weights, *overrides):
    """Return a model with the same numbers, whose only weights of layers are those of one target."""
    other, _ = made(store, *overrides)
    state = model.state_dict()
    state["streams.0.front.layers.logits"] = weights
    other.load_state_dict(state)
    return other


@pytest.mark.parametrize(
    "overrides",
    [
        ["fusion=none", "targets=[V,A,D]"],
        ["fusion=concat", "targets=[V,A,D,emotion]"],
        ["fusion=cross_attention", "pooling=attention", "head=linear", "targets=[emotion,A]"],
        ["fusion=none", "streams.speech.temporal=bilstm", "targets=[A,D]"],
        ["fusion=none", "pooling={name: chunks, attention: self}", "tasks.curves={name: sequence, targets: [V,A,D]}"],
        ["fusion=none", "pooling=chunks", "tasks.ranks={name: ranking, targets: [V,A]}"],
    ],
)
def test_each_target_is_what_a_model_with_its_weights_alone_predicts(rated_store, overrides):
    store = rated_store
    model, examples = made(store, PER_TARGET, *overrides)
    logits = model.streams[0].front.layers.logits
    with torch.no_grad():
        logits.copy_(LOGITS[: len(logits)])
    batch = examples.batch(np.array([4, 7, 50]))
    found = model(batch)
    view = 0
    for task, goal in examples.goals.items():
        for place, _ in enumerate(goal.metrics):
            expected = shared_like(model, store, LOGITS[view], *overrides)(batch)[task]
            own = slice(place, None, goal.outputs) if len(goal.metrics) > 1 else slice(None)
            assert found[task].shape == expected.shape
            assert torch.allclose(found[task][:, own], expected[:, own], atol=1e-6)
            view += 1
    assert view == len(logits)


def test_utterances_that_lack_the_stream_have_no_part_in_it(copied):
    lacking = [featurestore.open(copied).names()[row] for row in (3, 8)]
    rng = np.random.default_rng(0)

    def drawn(_, times):
        return rng.normal(size=(len(times), 2))

    for name, failing in (("deep", lacking), ("energy", [])):
        add_feature(copied, name, 0.02, failing=failing, value=drawn, layers=3 if name == "deep" else 1)
    chosen = ["streams={speech: {feature: deep}, energy: {}}", "fusion={name: multiscale, channels: 8, heads: 2}"]
    model, examples = made(featurestore.open(copied), *chosen, PER_TARGET, "targets=[V,A]")
    rows = examples.rows([*lacking, *examples.names[4:7]])
    together = predict(model, examples, [rows])["regression"]
    alone = torch.cat([predict(model, examples, [row[None]])["regression"] for row in rows])
    assert together.shape == (5, 2)
    assert torch.allclose(together, alone, atol=1e-5)
    model.train()(examples.batch(rows[:2]))["regression"].sum().backward()  # none of the batch has it


def test_one_target_or_one_layer_is_the_plain_sum(store):
    for overrides in (["targets=[V]"], ["targets=[emotion]"], ["targets=[V,A]", "streams.speech.layers=-1"]):
        model, examples = made(store, PER_TARGET, *overrides)
        plain, _ = made(store, *overrides)
        assert {name: one.shape for name, one in model.state_dict().items()} == {
            name: one.shape for name, one in plain.state_dict().items()
        }
        batch = examples.batch(np.arange(5))
        assert all(torch.equal(one, plain(batch)[task]) for task, one in model(batch).items())


def test_only_its_own_loss_moves_the_weights_of_a_target(store):
    model, examples = made(store, PER_TARGET, "fusion=none", "targets=[V,A,D]")
    outputs = model(examples.batch(np.arange(6)))["regression"]
    outputs[:, 1].square().sum().backward()
    slopes = model.streams[0].front.layers.logits.grad
    assert (slopes[1] != 0).all()
    assert (slopes[[0, 2]] == 0).all()


def test_the_layers_that_count_are_those_of_each_target(store):
    front = "streams.speech.front={name: layer_sum, per_target: true, top: 2}"
    model, _ = made(store, front, "targets=[V,A,D]")
    with torch.no_grad():
        model.streams[0].front.layers.logits.copy_(LOGITS[:3])
    weights = model.layer_weights()["speech"]
    assert [[n for n, one in enumerate(of) if one == 0] for of in weights.values()] == [[2], [], [0]]  # A: two are last
    assert [sum(of) for of in weights.values()] == pytest.approx([1, 1, 1])
    shares = np.exp([0.0, 1.0])
    assert weights["V"][:2] == pytest.approx((shares / shares.sum()).tolist(), rel=1e-5)


def test_half_of_the_channels_are_left_out_of_all_views_alike(store):
    model, examples = made(store, PER_TARGET, "fusion=none", "targets=[V,A]")
    stream = model.train().streams[0]
    values, lengths, count = stream.hear(examples.batch(np.arange(4)).streams["speech"])
    views = values.unflatten(1, (count, -1))
    assert torch.equal(views[:, 0], views[:, 1])  # in the beginning they have the same weights
    left_out = views[: int(lengths[0])] == 0
    assert torch.equal(left_out.all(dim=0), left_out.any(dim=0))  # of an utterance in all frames or in none
    assert 0.2 < float(left_out.float().mean()) < 0.8
    assert len(values) == int(lengths.sum())


def test_bands_of_channels_are_masked_in_all_views_alike(store):
    specaugment = "augment={name: specaugment, bands: 1, channels: 100, times: 0}"
    model, examples = made(store, PER_TARGET, "fusion=none", "targets=[V,A]", "streams.speech.dropout=0", specaugment)
    with torch.no_grad():
        model.streams[0].front.layers.logits.copy_(LOGITS[:2])
    heard = model.train().hear(examples.batch(np.arange(4))).streams["speech"]
    masked = heard.values.unflatten(1, (2, -1)) == 0
    assert torch.equal(masked[:, 0], masked[:, 1])
    widths = [int(one.sum()) for one in masked[heard.begins(), 0]]
    assert 0 < max(widths) <= masked.shape[2] // 2


def test_batch_norm_hears_all_views_together(store):
    """So that what it does in training is what it does when it predicts."""
    chosen = ["fusion=none", "targets=[V,A]", "streams.speech.dropout=0", "temporal={name: tcn, dropout: 0}"]
    model, examples = made(store, PER_TARGET, *chosen)
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm1d)]
    model.train().vectors(examples.batch(np.arange(8)))
    assert [int(norm.num_batches_tracked) for norm in norms] == [1] * len(norms) != []


def test_a_run_of_it_is_written_and_shown(store, tmp_path):
    """With mixed utterances, a second stream, and weights over time, which are shown as their mean over the targets."""
    parts = ["fusion=concat", "width=8", "pooling=attention", "targets=[V,A,emotion]", "augment=[mixup,noise]"]
    quick = ["splits.k=3", "optim.epochs=2", "workers=1", "baseline=false", f"runs={tmp_path}"]
    config = load(TrainConfig, [], [PER_TARGET, *parts, *quick, "attention_of=[u003]"])
    folder, results = run(store, config, lambda _: None)
    for model in results["models"]:
        learned = model["layer_weights"]["speech"]
        assert list(learned) == ["V", "A", "emotion"]
        assert [sum(of) for of in learned.values()] == pytest.approx([1, 1, 1])
        assert len({tuple(of) for of in learned.values()}) > 1
    assert {"layer_weights.png", "attention_u003.png"} <= {path.name for path in folder.glob("plots/*")}


def test_a_sweep_shows_the_weights_of_each_target(store_path, tmp_path):
    settings = {"splits.k": 3, "width": 8, "optim.epochs": 1, "baseline": False, "plots": False, "fusion": "none"}
    fronts = {kind: {"name": "layer_sum", "per_target": kind == "own"} for kind in ("shared", "own")}
    choices = {kind: {"streams.speech.front": front} for kind, front in fronts.items()}
    config = SweepConfig.model_validate(
        {"settings": {**settings, "targets": ["V", "A"]}, "factors": [{"name": "weights", "choices": choices}]}
    )
    folder = SweepFolder(begin(config, [str(store_path)], tmp_path, "layers"))
    assert run_sweep(folder, 1, None, lambda _: None) == 0
    weights = Findings(folder).layer_weights
    targets = [sorted(set(rows["target"])) for _, rows in weights.groupby("variant")]
    assert targets == [[""], ["A", "V"]]
    assert weights.groupby(["variant", "fold", "target"])["weight"].sum().to_numpy() == pytest.approx(1)
    page = write_report(folder).read_text()
    assert all(f"What weights the layers of {of} have learned" in page for of in ("speech", "speech for A"))
