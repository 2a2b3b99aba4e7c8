"""From ranks to curves, rankers, and sequences of chunks: golden values, files, and whole runs."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some
from scipy.stats import kendalltau, spearmanr

import featurestore
import train
from featurestore.access.writer import StoreWriter
from featurestore.format.plan import FeaturePlan, FeatureSpec, Plan
from featurestore.shared.config import load
from featurestore.shared.errors import SerError
from train.commands.matrix import cross_matrix
from train.commands.nested import nested_selection
from train.config import TrainConfig
from train.curves.attentions import ChunkAttention
from train.curves.chunks import chunk_times
from train.curves.curve import curves_of, smooth, trend
from train.curves.ordering import kendall_of, order_sums, pairwise_accuracy_of, spearman_of
from train.curves.pairs import Pairs
from train.curves.ranks import as_json, rank_sequence, read_ranks
from train.examples.examples import load_examples
from train.models.training import Training
from train.plots.curves_page import curves_figure
from train.poolings.chunks import Chunks
from train.running.run import resume, run
from train.tasks.ranking import Ranking

RANKS = [3, 1, 1, 2, 5, 4]
QUICK = [
    "splits.k=3",
    "width=8",
    "optim.epochs=2",
    "workers=1",
    "fusion=none",
    "folds=[0]",
    "plots=false",
    "baseline=false",
]
CHUNKS = ["pooling={name: chunks, seconds: 0.2, longest: 1.2, density: 1}"]  # 6 chunks of 10 frames


def test_golden_curve():
    assert trend(RANKS).tolist() == [0, 1, 1, 0, -1, 0]
    assert smooth(trend(RANKS)) == pytest.approx([0, 2 / 3, 2 / 3, 0, -1 / 3, 0])
    ratings = np.array([[3.5, 4.5, np.nan]])  # mean 4, population deviation .5
    found = curves_of([RANKS], ratings, "trend")[0]
    assert found == pytest.approx([3.7764, 4.6708, 4.6708, 3.7764, 3.3292, 3.7764], abs=5e-5)
    found = curves_of([RANKS], ratings)[0]  # thirds of -9, -5, -4, -8, -11, -12
    assert found == pytest.approx([3.8569, 4.5440, 4.7157, 4.0286, 3.5133, 3.3415], abs=5e-5)


def test_curves_of_two_chunks_have_nothing_to_smooth():
    assert curves_of([[2, 1]], np.array([[3.0, 5.0]])).tolist() == [[3, 5]]


def test_flat_curves_are_the_mean():
    ratings = np.array([[1.0, 3.0], [2.0, 2.0], [np.nan, np.nan]])
    found = curves_of([[1, 1, 1], [1, 2, 3], [1, 2, 3]], ratings)
    assert found[0].tolist() == [2.0] * 3
    assert found[1].tolist() == [2.0] * 3
    assert np.isnan(found[2]).all()


@given(scores=some.lists(some.integers(-3, 3), min_size=1, max_size=12))
def test_ranks_count_who_wins_more_often(scores):
    wins = [sum(a > b for b in scores) for a in scores]
    order = sorted(wins, reverse=True)
    assert rank_sequence(scores).tolist() == [1 + order.index(won) for won in wins]


def test_ranks_in_the_published_form(tmp_path):
    (tmp_path / "A.json").write_text('{"a.wav": {"ChunkRankSeq": [2, 1]}, "b": {"ChunkRankSeq": [1, 1]}}')
    found = read_ranks(tmp_path / "A.json")
    assert {name: ranks.tolist() for name, ranks in found.items()} == {"a": [2, 1], "b": [1, 1]}
    (tmp_path / "B.json").write_text(as_json(found))
    assert {name: ranks.tolist() for name, ranks in read_ranks(tmp_path / "B.json").items()} == {
        "a": [2, 1],
        "b": [1, 1],
    }


@pytest.mark.parametrize(
    "text",
    [
        "[1]",
        '{"a": 1}',
        '{"a": {"ChunkRankSeq": ["x"]}}',
        '{"a": {"ChunkRankSeq": [1.5, 2]}}',
        '{"a": {"ChunkRankSeq": [0, 1]}}',
        '{"a": {"ChunkRankSeq": [NaN, 1]}}',
        "{",
        '{"a": {"Ranks": [1]}}',
        "{}",
    ],
)
def test_files_that_are_no_ranks(tmp_path, text):
    (tmp_path / "A.json").write_text(text)
    with pytest.raises(SerError, match=r"A\.json"):
        read_ranks(tmp_path / "A.json")


@pytest.mark.parametrize("name", ChunkAttention.names())
def test_chunk_attention(name):
    torch.manual_seed(0)
    module = ChunkAttention.kind(name)().build(8)
    vectors = torch.randn(3, 5, 8, requires_grad=True)
    found, weights = module.eval()(vectors)
    assert found.shape == (3, 5, module.dim)
    assert torch.allclose(weights.sum(dim=1), torch.ones(3))
    assert (weights >= 0).all()
    assert torch.allclose(found[1:2], module(vectors[1:2])[0], atol=1e-6)
    (weights[..., None] * found).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in module.parameters())
    other = vectors.detach().clone()
    other[:, 0] += 1  # what is heard of another chunk
    heard, weighed = module(other)
    hears_others = not torch.allclose(heard[:, 1:], found[:, 1:])
    assert hears_others == (name in ("self", "recurrent"))
    assert torch.allclose(weighed, weights) == (not ChunkAttention.kind(name).weighs)


def test_a_short_utterance_is_one_chunk_many_times():
    pooling = Chunks(frames=10, longest=3.0, each="statistics", attention="self")
    torch.manual_seed(0)
    module = pooling.build(4).eval()
    frames, mask = torch.randn(2, 12, 4), torch.arange(12) < torch.tensor([[12], [7]])
    found = module.by_chunk(frames, mask)
    assert found.shape == (2, 6, 9)
    assert torch.allclose(found[1], found[1, :1].expand(6, -1), atol=1e-6)
    alone = module.by_chunk(frames[1:, :7], mask[1:, :7])
    assert torch.allclose(found[1:], alone, atol=1e-6)
    assert not torch.allclose(found[0, 0], found[0, 5])


RANKING, GATED = "tasks.r=ranking", "pooling={name: chunks, attention: gated}"
CHUNKS_ALONE, BOTH = (f"tasks.s={{name: sequence, ranks: a_folder, share: {share}}}" for share in (1, 0.9))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("pooling={name: chunks, longest: 1.0, density: 1}", "found 1 chunk of an utterance, expected two or more"),
        ("pooling={name: chunks, each: chunks}", "chunks of chunks: expected another pooling in each"),
        ("tasks.r={name: ranking, targets: [A], pairs: {V: x.csv}}", "expected pairs of each of A, found of V"),
    ],
)
def test_settings_that_cannot_be(override, message):
    with pytest.raises(SerError, match=message):
        load(TrainConfig, [], [override])


def test_chunks_of_one_frame_are_refused():
    with pytest.raises(SerError, match="fusion=multiscale gives one frame of an utterance"):
        load(TrainConfig, [], ["fusion=multiscale", "pooling=chunks"])


@pytest.mark.parametrize("tasks", [[RANKING], [CHUNKS_ALONE], [RANKING, CHUNKS_ALONE]])
@pytest.mark.parametrize("attention", ["gated", "recurrent"])
def test_weights_of_chunks_that_no_loss_trains_are_refused(attention, tasks):
    with pytest.raises(SerError, match=f"pooling.attention={attention} weighs the chunks .* only chunks train"):
        load(TrainConfig, [], [f"pooling={{name: chunks, attention: {attention}}}", *tasks])


@pytest.mark.parametrize("tasks", [["targets=[A]"], [BOTH], [RANKING, BOTH], ["tasks.s=sequence"]])
def test_weights_of_chunks_that_a_loss_trains(tasks):
    load(TrainConfig, [], [GATED, *tasks])


@pytest.mark.parametrize(("task", "trains"), [(RANKING, False), (CHUNKS_ALONE, False), (BOTH, True)])
def test_whether_a_task_trains_the_whole(rated_store, task, trains):
    (found,) = load(TrainConfig, [], [task]).tasks.values()
    hashes = {"pairs_sha256": {}, "ranks_sha256": ""}
    goal = found.goal({"ranges": dict.fromkeys("VAD", (1, 5)), "raters": 3, **hashes})
    outputs = torch.randn(8, 3 * 3, requires_grad=True)  # of the utterance and of two chunks
    targets = goal.targets(rated_store.utterances[:8])
    goal.loss(outputs, targets.repeat(1, 3) if found.name == "sequence" else targets).backward()
    assert found.trains_whole == bool(outputs.grad[:, :3].any()) == trains


def order_of(true, predicted, labels, groups):
    sums = order_sums(true, predicted, labels, groups, int(groups.max()) + 1)
    return sums, sums.sum(axis=0)


def test_metrics_of_an_order_are_those_of_scipy():
    rng = np.random.default_rng(0)
    true, predicted, groups = rng.integers(0, 9, 40) * 1.0, rng.normal(size=40).round(1), rng.integers(0, 4, 40)
    predicted += 0.2 * true
    labels = np.where(np.abs(true[:, None] - true) > 1, np.sign(true[:, None] - true), 0).astype(np.int8)
    sums, whole = order_of(true, predicted, labels, groups)
    assert float(spearman_of(whole)) == pytest.approx(spearmanr(true, predicted).statistic)
    assert float(kendall_of(whole)) == pytest.approx(kendalltau(true, predicted).statistic)
    pairs = [(i, j) for i in range(40) for j in range(40) if labels[i, j] > 0]
    right = np.mean([1.0 if predicted[i] > predicted[j] else 0.5 * (predicted[i] == predicted[j]) for i, j in pairs])
    assert float(pairwise_accuracy_of(whole)) == pytest.approx(right)
    mine = groups == 2  # within one group alone
    assert float(kendall_of(sums[2])) == pytest.approx(kendalltau(true[mine], predicted[mine]).statistic)


def test_a_resample_has_the_pairs_of_its_groups():
    """Each group as often as it is drawn: the same as if its utterances were there so many times."""
    rng = np.random.default_rng(1)
    true, predicted, groups = rng.normal(size=12), rng.normal(size=12), np.repeat(np.arange(4), 3)
    labels = np.sign(true[:, None] - true).astype(np.int8)
    sums, _ = order_of(true, predicted, labels, groups)
    times = np.array([2, 0, 1, 3])
    rows = np.concatenate([np.flatnonzero(groups == group) for group, count in enumerate(times) for _ in range(count)])
    _, drawn = order_of(true[rows], predicted[rows], labels[np.ix_(rows, rows)], groups[rows])
    resampled = np.tensordot(times.astype(float), sums, axes=1)
    for metric in (pairwise_accuracy_of, kendall_of):
        assert float(metric(resampled)) == pytest.approx(float(metric(drawn)))
    assert np.isnan(spearman_of(order_of(true, 0 * true, labels, groups)[1]))


def test_the_loss_of_a_ranker_is_that_of_ranknet(rated_store):
    goal = Ranking(targets=["A"]).learn(rated_store.utterances, rated_store.ranges, "the store")
    table = pd.DataFrame(
        {"A": [2.0, 4.0, 3.0], "ratings": [json.dumps([{"A": a} for a in said]) for said in ([2, 2], [4, 4], [2, 4])]}
    )
    targets = goal.targets(table)
    output = torch.tensor([[9.0, 0.5, 1.0], [9.0, 1.5, -1.0], [9.0, 0.0, 0.0]])  # of the utterance, of two chunks
    softplus = lambda x: np.log1p(np.exp(x))  # noqa: E731
    # the second is above the first; neither is told from the third, which half of the pairs find alike
    expected = np.mean([softplus(0.5 - 1.5), softplus(1.0 - -1.0)])
    expected += 0.01 * np.mean([0.5, 1.0, 1.5, -1.0, 0.0, 0.0]) ** 2  # their level
    assert float(goal.loss(output, targets)) == pytest.approx(expected)


def test_pairs_of_a_file(tmp_path):
    rows = "a.wav,b.wav,1\nb.wav,a.wav,0\nc.wav,a.wav,1\n"
    (tmp_path / "A.csv").write_text("Sentence1,Sentence2,PreferLabel\n" + rows)
    pairs = Pairs.read(tmp_path / "A.csv")
    labels = pairs.labels(torch.from_numpy(pairs.numbers(["c", "b", "nobody", "a"])))
    assert labels.tolist() == [[0, 0, 0, 1], [0, 0, 0, -1], [0, 0, 0, 0], [-1, 1, 0, 0]]


def trained(store, tmp_path, *overrides):
    config = load(TrainConfig, [], [*QUICK, f"runs={tmp_path}", *overrides])
    return run(store, config, lambda _: None)


RANKER = ["tasks.order={name: ranking, targets: [A, D]}", *CHUNKS]


def test_rankers_ranks_and_sequences(commands, rated_store, tmp_path):
    """The published chain: a ranker, the order of the chunks by it, and a model that is taught these curves."""
    folder, results = trained(rated_store, tmp_path, *RANKER, "optim.epochs=4", "baseline=true")
    assert results["metrics"] == {"A": "pairwise_accuracy", "D": "pairwise_accuracy"}
    found = results["figures"]["model"]["A"]
    assert set(found) == {"pairwise_accuracy", "Spearman", "Kendall"}
    assert found["pairwise_accuracy"]["value"] > 0.8
    table = pd.read_csv(folder / "predictions.csv", index_col="name")
    assert found["Spearman"]["value"] == pytest.approx(spearmanr(table["A"], table["A_model"]).statistic, abs=1e-6)
    assert found["Kendall"]["value"] == pytest.approx(kendalltau(table["A"], table["A_model"]).statistic, abs=1e-6)

    done = commands.run("ranks", "--run", folder)
    assert done.returncode == 0, done.stderr
    ranks = read_ranks(folder / "ranks" / "fold_0" / "A.json")
    assert set(ranks) == set(rated_store.names())
    tested = pd.read_csv(folder / "curves.csv", index_col=["name", "chunk"])
    for name in table.index[:5]:
        assert tested.loc[name, "A_rank"].tolist() == ranks[name].tolist()

    results_of_ranker = results
    sequence = f"tasks.curve={{name: sequence, targets: [A, D], ranks: {folder / 'ranks'}}}"
    drawn = table.index[0]
    whole, results = trained(rated_store, tmp_path, sequence, *CHUNKS, f"curves_of=[{drawn}]")
    assert results["metrics"] == {"A": "CCC", "D": "CCC"}
    curves = pd.read_csv(whole / "curves.csv", index_col=["name", "chunk"])
    assert len(curves) == 6 * len(table)
    predicted = pd.read_csv(whole / "predictions.csv", index_col="name")
    inside = (curves["A"] > 1).groupby("name").all()  # no chunk was cut at the end of the scale
    assert inside.any()
    means = curves["A"].groupby("name").mean()[inside]
    assert np.allclose(means, predicted.loc[means.index, "A_model"], atol=1e-5)
    times = chunk_times(rated_store.feature("states").times(drawn), 10, 6)
    assert np.allclose(curves.loc[drawn, ["start", "time", "end"]], times, atol=1e-6)
    assert (whole / "plots" / f"curve_{drawn}.svg").exists()
    assert drawn in (whole / "plots" / "curves.html").read_text(encoding="utf-8")

    again = train.Run.open(whole).curves(rated_store)
    assert len(again) == 6 * 96
    mine = again.loc[table.index, ["A", "D"]]
    assert mine.to_numpy().tolist() == curves.loc[table.index, ["A", "D"]].to_numpy().tolist()
    done = commands.run(
        "curves", "--run", whole, "--store", rated_store.path, "--out", tmp_path / "out", "--draw", drawn
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / f"curve_{drawn}.png").exists()
    assert drawn in (tmp_path / "out" / "curves.html").read_text(encoding="utf-8")
    written = pd.read_csv(tmp_path / "out" / "curves.csv", index_col=["name", "chunk"])
    assert written["A"].tolist() == mine.loc[drawn, "A"].tolist()

    done = commands.run("order", folder, whole, "--out", tmp_path / "order.csv")
    assert done.returncode == 0, done.stderr
    order = pd.read_csv(tmp_path / "order.csv", index_col=["target", "metric", "run"])
    for metric, of in results_of_ranker["figures"]["model"]["A"].items():
        mine = order.loc["A", metric, str(folder)]
        assert mine[["value", "low", "high"]].tolist() == pytest.approx([of["value"], of["low"], of["high"]])
        assert mine["less_first"] == 0
    beside = order.loc["D", "Spearman", str(whole)]
    assert beside["value"] == pytest.approx(spearmanr(predicted["D"], predicted["D_model"]).statistic)
    less = beside["value"] - order.loc["D", "Spearman", str(folder)]["value"]
    assert beside["less_first"] == pytest.approx(less)
    assert beside["less_first_low"] <= less <= beside["less_first_high"]
    assert "less the first" in done.stdout
    done = commands.run("order", folder, "--threshold", "0.5")
    assert "threshold=0.5: expected .5 < threshold <= 1" in done.stderr

    with pytest.raises(SerError, match="trained on other folds, perhaps on utterances that are tested here"):
        trained(rated_store, tmp_path, sequence, *CHUNKS, "splits.seed=6")
    with pytest.raises(SerError, match="has 6 chunks of an utterance, the pooling 12"):
        trained(rated_store, tmp_path, sequence, *CHUNKS, "pooling.density=2")
    with pytest.raises(SerError, match=r"ranks=.* are of chunks: found pooling=mean"):
        trained(rated_store, tmp_path, sequence)
    done = commands.run("compare", folder, folder)
    assert "judged by pairwise_accuracy cannot be compared" in done.stderr
    assert "ser-train order says" in done.stderr


def test_ranks_of_other_utterances_are_refused(rated_store, tmp_path):
    (tmp_path / "A.json").write_text(as_json({"other.wav": RANKS, "another": RANKS}))
    task = f"tasks.curve={{name: sequence, targets: [A], ranks: {tmp_path}}}"
    with pytest.raises(SerError, match="has ranks of other and 1 others, but of no utterance here"):
        trained(rated_store, tmp_path, task, *CHUNKS)


def test_the_targets_of_a_sequence_are_the_curves_of_its_fold(rated_store, tmp_path):
    ranks = np.array([RANKS] * 96)
    (tmp_path / "A.json").write_text(as_json(dict(zip(rated_store.names(), ranks, strict=True))))
    task = f"tasks.curve={{name: sequence, targets: [A], ranks: {tmp_path}, share: 0.3}}"
    config = load(TrainConfig, [], [*QUICK, *CHUNKS, task])
    examples = load_examples(rated_store, config)
    assert examples.targets["curve"].shape == (96, 1)
    of_fold = examples.of_fold(0)
    targets = of_fold.targets["curve"]
    ratings = [[one["A"] for one in json.loads(said)] for said in rated_store.utterances["ratings"]]
    expected = (curves_of(ranks, np.array(ratings)) - 1) / 4
    assert np.allclose(targets[:, 1:], expected, atol=1e-6)
    training = Training(of_fold, config, of_fold.names, [], 1, 0)
    batch = of_fold.batch(np.arange(20))
    output = training.model.eval()(batch)["curve"].detach()
    assert output.shape == (20, 7)
    assert torch.allclose(output[:, 0], output[:, 1:].mean(dim=1), atol=1e-6)

    def loss(mine, true):
        mine, true = mine.double().numpy().ravel(), true.double().numpy().ravel()
        covariance = np.mean((mine - mine.mean()) * (true - true.mean()))
        return 1 - 2 * covariance / (mine.var() + true.var() + (mine.mean() - true.mean()) ** 2)

    wanted = batch.targets["curve"]
    expected = 0.7 * loss(output[:, 0], wanted[:, 0]) + 0.3 * loss(output[:, 1:], wanted[:, 1:])
    assert float(of_fold.goals["curve"].loss(output, wanted)) == pytest.approx(expected, abs=1e-4)


def test_rankers_have_the_same_bits_in_any_company(rated_store, tmp_path):
    settings = [*RANKER, "optim.epochs=2"]
    alone, _ = trained(rated_store, tmp_path / "alone", *settings)
    beside, _ = trained(rated_store, tmp_path / "beside", *settings, "folds=[1,0]", "members=2")
    name = "models/fold_0_member_0.safetensors"
    assert (alone / name).read_bytes() == (beside / name).read_bytes()


def test_a_ranker_is_trained_by_the_pairs_of_a_file(rated_store, tmp_path):
    """Pairs that say the contrary of the raters teach the contrary."""
    table = rated_store.utterances
    rows = [f"{a},{b},{int(table['A'][a] < table['A'][b])}" for a in table.index[::2] for b in table.index[1::2]]
    (tmp_path / "A.csv").write_text("\n".join(["Sentence1,Sentence2,PreferLabel", *rows]))
    task = f"tasks.order={{name: ranking, targets: [A], pairs: {{A: {tmp_path / 'A.csv'}}}}}"
    _, results = trained(rated_store, tmp_path / "runs", task, "optim.epochs=5", "optim.patience=5")
    assert results["figures"]["model"]["A"]["Spearman"]["value"] < -0.5


def test_pairs_that_are_of_other_utterances_are_said(rated_store, tmp_path):
    (tmp_path / "A.csv").write_text("Sentence1,Sentence2,PreferLabel\nx,y,1\nu000,u000,1\nu001,y,0\n")
    task = f"tasks.order={{name: ranking, targets: [A], pairs: {{A: {tmp_path / 'A.csv'}}}}}"
    examples = load_examples(rated_store, load(TrainConfig, [], [*QUICK, task]))
    parts = dict.fromkeys(("train", "dev", "test"), examples.targets["order"])
    assert examples.goals["order"].check([parts]) == [
        f"fold 0: no pair of {tmp_path / 'A.csv'} is of two utterances of train: nothing is learned of A"
    ]
    (tmp_path / "A.csv").write_text("Sentence1,Sentence2,PreferLabel\nx,y,1\nu000,u001,1\n")
    examples = load_examples(rated_store, load(TrainConfig, [], [*QUICK, task]))
    parts = dict.fromkeys(("train", "dev", "test"), examples.targets["order"])
    assert examples.goals["order"].check([parts]) == []


def test_ranks_without_ratings_are_refused_before_anything_is_trained(store, tmp_path):
    (tmp_path / "A.json").write_text(as_json(dict.fromkeys(store.names(), RANKS)))
    task = f"tasks.o={{name: sequence, targets: [A], ranks: {tmp_path}}}"
    with pytest.raises(SerError, match=r"^the store has no column ratings"):
        load_examples(store, load(TrainConfig, [], [*QUICK, task]))


def test_what_a_run_was_taught_by_does_not_change(rated_store, tmp_path):
    """A run can be opened without the files that trained it, but not trained on by others."""
    (tmp_path / "A.json").write_text(as_json(dict.fromkeys(rated_store.names(), RANKS)))
    (tmp_path / "A.csv").write_text("Sentence1,Sentence2,PreferLabel\nu000,u001,1\nu002,u004,0\n")
    sequence = f"tasks.o={{name: sequence, targets: [A], ranks: {tmp_path}}}"
    ranking = f"tasks.o={{name: ranking, targets: [A], pairs: {{A: {tmp_path / 'A.csv'}}}}}"
    folders = [
        trained(rated_store, tmp_path / "runs", one, *CHUNKS, "optim.epochs=1")[0] for one in (sequence, ranking)
    ]
    (tmp_path / "A.json").write_text(as_json(dict.fromkeys(rated_store.names(), RANKS[::-1])))
    (tmp_path / "A.csv").write_text("Sentence1,Sentence2,PreferLabel\nu000,u001,0\n")
    for folder in folders:
        assert len(train.Run.open(folder).predict(rated_store)) == 96
        (folder / "models" / "fold_0_member_0.safetensors").unlink()
        with pytest.raises(SerError, match="changed since the run began"):
            resume(folder, lambda _: None)


def test_what_cannot_be_ranked(store, rated_store, tmp_path):
    with pytest.raises(SerError, match="the store has no column ratings"):
        trained(store, tmp_path, *RANKER)
    with pytest.raises(SerError, match="curves_of needs pooling=chunks, and a task that hears chunks"):
        trained(rated_store, tmp_path, "targets=[A]", *CHUNKS, "curves_of=[u000]")
    with pytest.raises(SerError, match=r"pairs.A=.*nothing.csv cannot be read: No such file"):
        trained(rated_store, tmp_path, "tasks.o={name: ranking, targets: [A], pairs: {A: nothing.csv}}")
    folder, _ = trained(rated_store, tmp_path, "targets=[A]", *CHUNKS, "pooling.attention=gated", "optim.epochs=1")
    assert not (folder / "curves.csv").exists()
    with pytest.raises(SerError, match="has no curves: expected a run with pooling=chunks and the task sequence"):
        train.Run.open(folder).curves(rated_store)


def test_rankings_are_in_no_table_of_numbers_and_categories(rated_store, tmp_path):
    ranker = load(TrainConfig, [], [*QUICK, *RANKER, f"runs={tmp_path}"])
    with pytest.raises(SerError, match=r"a matrix takes numbers and categories: tasks.order is a ranking"):
        cross_matrix([str(rated_store.path)] * 2, ranker, print)
    with pytest.raises(SerError, match=r"a nested selection takes numbers and categories: tasks.order is a ranking"):
        nested_selection(rated_store, {"a": ranker, "b": ranker}, print)


@pytest.fixture
def moving_store(tmp_path):
    """Six speakers whose arousal goes up, down, or up and down within each utterance; raters gave its mean."""
    rng, names = np.random.default_rng(3), [f"m{i:02d}" for i in range(72)]
    frames = rng.integers(80, 140, len(names))
    shapes = [np.linspace(-1, 1, 140), np.linspace(1, -1, 140), np.sin(np.linspace(-np.pi / 2, 3 * np.pi / 2, 140))]
    height = rng.uniform(2, 4, len(names))
    truth = {
        name: height[i] + np.interp(np.linspace(0, 139, frames[i]), np.arange(140), shapes[i // 6 % 3])
        for i, name in enumerate(names)
    }
    said = [[{"A": float(truth[name].mean() + shift)} for shift in (-0.2, 0, 0.2)] for name in names]
    table = pd.DataFrame(
        {
            "speaker": [f"s{i % 6}" for i in range(len(names))],
            "duration": frames * 0.02,
            "A": [truth[name].mean() for name in names],
            "ratings": [json.dumps(one) for one in said],
        },
        index=pd.Index(names, name="name"),
    )
    writer = StoreWriter(tmp_path / "moving.zarr")
    with writer.lock():
        writer.plan(Plan.make(table, 600.0, dataset="moving", ranges={"A": (1.0, 5.0)}, left_out={}))
        spec = FeatureSpec(layers=1, dim=4, hop=0.02, dtype="float32")
        writer.plan_feature("voice", FeaturePlan(spec, frames, np.full(len(names), 0.01)))
        for number in writer.pending("voice"):
            with writer.shard("voice", number) as shard:
                for name in shard.names:
                    noise = rng.normal(size=(len(truth[name]), 4))
                    shard.add(name, (noise + truth[name][:, None] * [1, -0.5, 0, 0]).astype(np.float32)[None])
        writer.commit("voice")
    return featurestore.open(tmp_path / "moving.zarr"), truth


def test_curves_of_unseen_speakers_follow_what_moves(moving_store, tmp_path):
    """Taught by whole utterances alone: which of two has more."""
    store, truth = moving_store
    ranker = "tasks.order={name: ranking, targets: [A]}"
    chunks = "pooling={name: chunks, seconds: 0.5, longest: 3.0, density: 2}"
    words = ["streams.voice.feature=voice", "width=8", "fusion=none", "splits.k=3", "workers=1", "plots=false"]
    words += ["curves_of=[m00]", "optim.epochs=8", "baseline=false", f"runs={tmp_path}"]
    folder, _ = run(store, load(TrainConfig, [], [*words, ranker, chunks]), lambda _: None)
    curves, found = pd.read_csv(folder / "curves.csv", index_col=["name", "chunk"]).drop(columns="fold"), []
    assert (folder / "plots" / "curves.html").exists()
    (drawn,) = curves_figure(store, "m00", curves.loc["m00"]).data  # the store has neither level nor pitch
    assert drawn.name == "A_rank"
    assert len(curves) == 72 * 12
    for name, curve in curves.groupby("name"):
        times = store.feature("voice").times(name)
        arousal = np.interp(curve["time"], times, truth[name])
        found.append(spearmanr(smooth(-curve["A_rank"].to_numpy(float)), arousal).statistic)
    assert np.mean(found) > 0.9
