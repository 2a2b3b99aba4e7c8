"""Losses by hand: weights and orders of classes, focal loss, votes of raters."""

import json

import numpy as np
import pytest
import torch

from featurestore.shared.config import load
from featurestore.shared.errors import ConfigError, SerError
from train.config import TrainConfig
from train.examples.examples import load_examples
from train.losses import Loss
from train.models.training import Training
from train.running.run import run
from train.tasks.classification import Classification
from train.tasks.votes import Votes

CLASSES = ["anger", "calm", "joy"]
LOGITS = torch.tensor([[2.0, 0.5, -1.0], [0.0, 0.0, 0.0], [-1.0, 3.0, 0.2], [1.0, 1.0, 4.0]])
TRUE = torch.tensor([0, 1, 0, 2])
COUNTS = torch.tensor([6, 3, 1])


def probabilities():
    powers = np.exp(LOGITS.double().numpy())
    return powers / powers.sum(axis=1, keepdims=True)


def loss_of(name, **settings):
    return Loss.kind(name).model_validate({"name": name, **settings})


def test_focal_by_hand():
    """The weight stands before what the softmax alone says of the true class."""
    p = probabilities()[np.arange(4), TRUE]
    each = (1 - p) ** 2 * -np.log(p)
    assert float(loss_of("focal")(LOGITS, TRUE)) == pytest.approx(each.mean(), rel=1e-5)
    weighted = loss_of("focal", weights={"anger": 1.2}).of_classes(CLASSES, COUNTS)
    assert float(weighted(LOGITS, TRUE)) == pytest.approx((each * [1.2, 1, 1.2, 1]).mean(), rel=1e-5)
    wrong = np.array([1.2, 1, 1.2, 1]) * -np.log(p)  # what the faulty form takes p from
    faulty = ((1 - np.exp(-wrong)) ** 2 * wrong).mean()
    assert abs(float(weighted(LOGITS, TRUE)) - faulty) > 0.01


def test_focal_without_gamma_is_cross_entropy():
    for smoothing in (0.0, 0.1):
        focal, plain = (
            loss_of(name, label_smoothing=smoothing, **({"gamma": 0} if name == "focal" else {}))
            for name in ("focal", "cross_entropy")
        )
        assert float(focal(LOGITS, TRUE)) == pytest.approx(float(plain(LOGITS, TRUE)), rel=1e-5)


def test_smoothed_focal_by_hand():
    p, shares = probabilities(), np.eye(3)[TRUE] * 0.9 + 0.1 / 3
    expected = (shares * (1 - p) ** 2 * -np.log(p)).sum(axis=1).mean()
    assert float(loss_of("focal", label_smoothing=0.1)(LOGITS, TRUE)) == pytest.approx(expected, rel=1e-5)


def test_balanced_cross_entropy_by_hand():
    weights = 10 / (3 * np.array([6, 3, 1]))
    each = -np.log(probabilities()[np.arange(4), TRUE])
    found = loss_of("cross_entropy", weights="balanced").of_classes(CLASSES, COUNTS)(LOGITS, TRUE)
    assert float(found) == pytest.approx((each * weights[TRUE]).sum() / weights[TRUE].sum(), rel=1e-5)


def test_a_class_that_the_training_part_lacks_has_a_weight():
    found = loss_of("cross_entropy", weights="balanced").of_classes(CLASSES, torch.tensor([6, 0, 1]))
    assert found(LOGITS, TRUE).isfinite()


def test_ordinal_by_hand():
    """Half of the probability one class too far costs a quarter, two classes too far twice that."""
    half = float(np.log(0.5))
    near, far = torch.tensor([[half, half, -99.0]]), torch.tensor([[half, -99.0, half]])
    loss = loss_of("ordinal", order=["low", "medium", "high"])
    of_names = loss.of_classes(["high", "low", "medium"], COUNTS)
    assert float(loss(near, torch.tensor([0]))) == pytest.approx(0.25)
    assert float(loss(far, torch.tensor([0]))) == pytest.approx(0.5)
    by_name = [2, 0, 1]  # high, low, medium
    assert float(of_names(near[:, by_name], torch.tensor([1]))) == pytest.approx(0.25)
    assert float(of_names(far[:, by_name], torch.tensor([1]))) == pytest.approx(0.5)


def test_classes_that_are_numbers_have_an_order():
    found = loss_of("ordinal").of_classes(["10", "2", "9"], COUNTS)
    logits = torch.tensor([[-99.0, 0.0, 0.0]])
    assert float(found(logits, torch.tensor([1]))) == pytest.approx(0.25)  # 2 and 9 are neighbours
    assert float(found(logits[:, [1, 0, 2]], torch.tensor([1]))) > 0.7


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (
            {"name": "focal", "weights": {"hapiness": 2}},
            "loss.weights names hapiness; the classes are anger, calm, joy",
        ),
        ({"name": "ordinal"}, r"loss=ordinal needs the order of anger, calm, joy: loss\.order=\[LOWEST, …\]"),
        ({"name": "ordinal", "order": ["calm", "joy"]}, "loss.order names calm, joy; the classes are anger, calm, joy"),
    ],
)
def test_losses_that_do_not_fit_the_classes(store, loss, message):
    with pytest.raises(SerError, match=message):
        Classification(loss=loss).learn(store.utterances, {}, "the store")


def test_losses_of_other_tasks_are_refused():
    for task, loss in (("classification", "kl"), ("votes", "focal"), ("regression", "kl"), ("classification", "mae")):
        with pytest.raises(ConfigError, match=f"{loss} is a loss of .*, expected one of {task}"):
            load(TrainConfig, [], [f"tasks.e={{name: {task}, loss: {loss}}}"])


def test_concordance_and_error_together():
    torch.manual_seed(0)
    predicted, true = torch.rand(2, 9, 2)
    parts = [float(loss_of(name)(predicted, true)) for name in ("ccc", "mse")]
    for share in (0.0, 0.3, 1.0):
        found = float(loss_of("ccc_mse", share=share)(predicted, true))
        assert found == pytest.approx(share * parts[0] + (1 - share) * parts[1], rel=1e-5)
    assert float(loss_of("mae")(predicted, true)) == pytest.approx(float((predicted - true).abs().mean()), rel=1e-5)


def test_weights_are_of_the_training_part(store):
    """Balanced weights count the utterances that train, no others."""
    config = load(TrainConfig, [], ["targets=[emotion]", "loss={name: cross_entropy, weights: balanced}", "width=8"])
    examples = load_examples(store, config)
    train = examples.names[:30]
    training = Training(examples, config, train, examples.names[30:40], 1, 0)
    counts = store.utterances.loc[train, "emotion"].value_counts().reindex(CLASSES).to_numpy()
    weights = torch.from_numpy(30 / (3 * counts)).float()
    output, targets = torch.randn(96, 3), examples.targets["emotion"]
    expected = torch.nn.functional.cross_entropy(output, targets, weights)
    assert float(training._losses["emotion"](output, targets)) == pytest.approx(float(expected), rel=1e-5)


def as_ratings(*said):
    return json.dumps([{"rater": str(number), "emotion": one} for number, one in enumerate(said)])


def test_votes_by_hand(store):
    table = store.utterances.iloc[:4].assign(emotion=["anger", "", "joy", "calm"])
    table["ratings"] = [as_ratings("anger", "anger; joy", "Wut", "?"), as_ratings("joy", "calm"), "[]", as_ratings("?")]
    goal = Votes(words={"Wut": "anger", "?": ""}).learn(table, {}, "the store")
    targets = goal.targets(table)
    assert targets[:2].tolist() == [[0, pytest.approx(2.5 / 3), 0, pytest.approx(0.5 / 3)], [-1, 0, 0.5, 0.5]]
    assert goal.missing(targets)["emotion"].tolist() == [False, False, True, True]
    assert goal.labels(targets).tolist() == [0, -1, 2, 1]
    output = torch.randn(4, 3)
    p = output.softmax(dim=-1).numpy()
    shares = targets[:2, 1:].numpy()
    divergence = np.where(shares > 0, shares * np.log(np.where(shares > 0, shares, 1) / p[:2]), 0).sum(axis=1)
    assert float(goal.loss(output, targets)) == pytest.approx(divergence.mean(), rel=1e-5)


def test_votes_that_name_no_class_are_said(store):
    table = store.utterances.assign(ratings=as_ratings("anger", "rage"))
    with pytest.raises(SerError, match=r"voted for rage, which is no emotion: .* \{rage: anger\}, empty to leave"):
        Votes().learn(table, {}, "the store")
    with pytest.raises(SerError, match="no rater voted by emotion in ratings: choose the key by"):
        Votes().learn(table.assign(ratings='[{"rater": "1", "V": 2.0}]'), {}, "the store")


@pytest.mark.parametrize("ratings", ["[", "[1]", '{"emotion": "joy"}', "x"])
def test_votes_that_are_none_are_named(store, ratings):
    table = store.utterances.assign(ratings=as_ratings("anger"))
    table.loc["u003", "ratings"] = ratings
    with pytest.raises(SerError, match="the ratings of u003 are not JSON of the form"):
        Votes().learn(table, {}, "the store")


def test_a_rater_who_says_nothing_has_no_vote(store):
    table = store.utterances.iloc[:4].assign(emotion=["anger", "joy", "joy", "calm"], ratings=as_ratings("anger"))
    table["ratings"] = ['[{"emotion": null}, {"emotion": "joy"}]', '[{"emotion": null}]', "  ", '[{"emotion": ""}]']
    shares = Votes().learn(table, {}, "the store").targets(table)[:, 1:]
    assert shares[0].tolist() == [0, 0, 1]
    assert shares[1:].isnan().all()


def test_a_run_on_votes(changed, store, tmp_path):
    """Trained on shares of votes, measured by the labels, beside a ridge on these."""
    ratings = [as_ratings(emotion, emotion, "calm") for emotion in store.utterances["emotion"]]
    other = changed(store.utterances.assign(ratings=ratings))
    settings = ["tasks.emotion=votes", "splits.k=3", "width=8", "optim.epochs=2", "workers=1", f"runs={tmp_path}"]
    folder, results = run(other, load(TrainConfig, [], settings), lambda _: None)
    assert 0 <= results["results"]["model"]["emotion"]["value"] <= 1
    assert (folder / "report.xlsx").exists()
