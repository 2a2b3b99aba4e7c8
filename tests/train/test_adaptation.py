"""Domain adaptation: the distance, what it is told, and that it brings two corpora together."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

import featurestore
from featurestore.shared.config import load
from featurestore.shared.errors import SerError
from tests.train.test_corpora import paths  # noqa: F401, a fixture
from train.config import TrainConfig
from train.numerics.adaptation import LMMD
from train.reading.corpora import open_stores
from train.running.run import run

ADAPTING = [
    "splits={name: datasets, test: [ten], adapt: 3}",
    "targets=[emotion]",
    "fusion=none",
    "streams.speech.feature=states",
    "width=8",
    "optim.epochs=2",
    "workers=1",
    "baseline=false",
]


def one_hot(rng, count, classes):
    return torch.nn.functional.one_hot(torch.from_numpy(rng.integers(0, classes, count)), classes).double()


def by_hand(lmmd, vectors, shares, others, other_shares):
    """Return the loss as the paper writes it: a mean over classes of three double sums of kernels."""
    everything = torch.cat([vectors, others])
    n = len(everything)
    squared = torch.tensor([[float(((a - b) ** 2).sum()) for b in everything] for a in everything])
    width = squared.sum() / (n * n - n) / lmmd.multiple ** (lmmd.kernels // 2)
    kernel = sum(torch.exp(-squared / (width * lmmd.multiple**i)) for i in range(lmmd.kernels)).double()
    ss, tt, st = kernel[: len(vectors), : len(vectors)], kernel[len(vectors) :, len(vectors) :], None
    st = kernel[: len(vectors), len(vectors) :]
    found = []
    for c in range(shares.shape[1]):
        if shares[:, c].sum() and other_shares[:, c].sum():
            w, v = shares[:, c] / shares[:, c].sum(), other_shares[:, c] / other_shares[:, c].sum()
            found.append(w @ ss @ w + v @ tt @ v - 2 * w @ st @ v)
    return torch.stack(found).mean()


@pytest.mark.parametrize("seed", range(5))
def test_it_is_the_papers(seed):
    rng = np.random.default_rng(seed)
    vectors, others = (torch.from_numpy(rng.normal(size=(n, 4))) for n in (9, 7))
    shares, others_shares = one_hot(rng, 9, 4), torch.from_numpy(rng.dirichlet(np.ones(4), 7))
    lmmd = LMMD(kernels=1 + seed, multiple=1.5)
    found = lmmd(vectors, shares, others, others_shares)
    assert float(found) == pytest.approx(float(by_hand(lmmd, vectors, shares, others, others_shares)), rel=1e-5)


def test_it_is_zero_for_the_same_and_falls_as_classes_meet():
    rng = np.random.default_rng(0)
    shares = one_hot(rng, 40, 3)
    vectors = shares @ torch.from_numpy(rng.normal(size=(3, 5))) * 3 + torch.from_numpy(rng.normal(size=(40, 5)))
    lmmd = LMMD()
    assert float(lmmd(vectors, shares, vectors, shares)) == pytest.approx(0, abs=1e-12)
    apart = [float(lmmd(vectors, shares, vectors + shift, shares)) for shift in (0.5, 1, 2, 4)]
    assert apart == sorted(apart)
    assert apart[0] > 0


def test_the_weight_rises():
    rising = [LMMD(weight=0.4).weight_at(done) for done in (0, 0.1, 0.5, 1)]
    assert rising == sorted(rising)
    assert rising[0] == 0
    assert rising[-1] == pytest.approx(0.4, rel=1e-3)


def trained(paths, folder, *overrides):  # noqa: F811
    asked = load(TrainConfig, [], [*ADAPTING, *overrides, f"runs={folder}"])
    return run(open_stores(paths), asked, lambda _: None)[0]


def test_no_label_of_the_other_corpus_is_used(paths, store, tmp_path):  # noqa: F811
    """Models are the same where the labels of what they adapt to are others, and differ where the frames are."""
    first = trained(paths, tmp_path / "a", "lmmd.weight=1")
    protocol = json.loads((first / "protocol.json").read_text())
    assert all(len(fold["unlabelled"]) + len(fold["test"]) == 96 for fold in protocol["folds"])
    plain = trained(paths, tmp_path / "b")
    again = trained(paths, tmp_path / "c", "lmmd.weight=1")
    read = [(folder / "models/fold_0_member_0.safetensors").read_bytes() for folder in (first, plain, again)]
    assert read[0] == read[2]
    assert read[0] != read[1]
    shuffled = featurestore.open(paths[1])
    table = shuffled.utterances
    fold = protocol["folds"][0]["unlabelled"]
    names = [name.removeprefix("ten/") for name in fold]
    table.loc[names, "emotion"] = np.roll(table.loc[names, "emotion"].to_numpy(), 1)
    from shutil import copytree

    from featurestore.access.writer import StoreWriter

    copytree(paths[1], tmp_path / "ten.zarr")
    writer = StoreWriter(tmp_path / "ten.zarr")
    with writer.change_at_once():
        writer.replace_table(table)
    other = trained([paths[0], str(tmp_path / "ten.zarr")], tmp_path / "d", "lmmd.weight=1", "folds=[0]")
    assert (other / "models/fold_0_member_0.safetensors").read_bytes() == read[0]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["splits.adapt=null"], "expected splits=datasets with adapt=K"),
        (["targets=[V]"], "expected one target that names categories"),
        (["splits.adapt=30"], "splits.adapt=30: found 6 speakers"),
    ],
)
def test_what_cannot_be_adapted_is_said(paths, tmp_path, overrides, message):  # noqa: F811
    with pytest.raises(SerError, match=message):
        trained(paths, tmp_path, "lmmd={}", *overrides)
    assert not list(tmp_path.iterdir())


def test_predictions_are_of_all_folds(paths, tmp_path):  # noqa: F811
    table = pd.read_csv(trained(paths, tmp_path, "lmmd={}") / "predictions.csv")
    assert len(table) == 96
    assert set(table["fold"]) == {0, 1, 2}
