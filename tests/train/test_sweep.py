"""Variants of a config follow from its factors; each is trained as ser-train trains it, once."""

import io
import json
import re
import shutil
import time
from multiprocessing import active_children
from pathlib import Path
from resource import RLIMIT_AS, getrlimit, setrlimit
from threading import Thread

import pandas as pd
import psutil
import pytest
from distributed import LocalCluster
from rich.console import Console

import featurestore
from featurestore.operations.copying import copy_stores
from featurestore.shared.config import load
from featurestore.shared.errors import ConfigError, SerError
from featurestore.shared.strict_yaml import parse
from tests.processes import Command
from train.comparison.compare import compare_runs
from train.config import TrainConfig
from train.examples.examples import load_examples
from train.models.inference import make_model
from train.running.folder import RunFolder
from train.running.run import run
from train.running.work import Job, _side_by_side, do_pack, packed
from train.shared.files import owned
from train.splits import share_of
from train.sweep.cli import main_command, status
from train.sweep.config import SweepConfig, in_words, train_config, variants_of, words_of
from train.sweep.folder import SweepFolder
from train.sweep.leaderboard import leaderboard, leaderboard_lines, with_progress
from train.sweep.live import SweepLive
from train.sweep.methods import found_lines, methods_of
from train.sweep.planning import plan_lines
from train.sweep.report import write_report
from train.sweep.running import begin, do_variants, run_sweep
from train.sweep.search import run_search

SETTINGS = {
    "splits.k": 3,
    "width": 8,
    "optim.epochs": 2,
    "baseline": False,
    "plots": False,
    "streams.speech.feature": "states",
}
FACTORS = [{"name": "fusion", "values": ["none", "concat"]}, {"name": "seed", "values": [0, 1]}]


def sweep(*factors, **more):
    return SweepConfig.model_validate({"settings": SETTINGS, "factors": list(factors) or FACTORS, **more})


def quiet(_):
    pass


def test_all_combinations_are_variants():
    found = variants_of(sweep())
    assert [one.words({}) for one in found] == [
        ["fusion=none", "seed=0"],
        ["fusion=none", "seed=1"],
        ["fusion=concat", "seed=0"],
        ["fusion=concat", "seed=1"],
    ]
    assert [one.number for one in found] == [0, 1, 2, 3]
    assert found[2].levels == {"fusion": "concat", "seed": "0"}


def test_settings_that_go_together_are_one_level():
    choices = {"small": {"width": 8, "head.hidden": 4}, "large": {"width": 16, "head.hidden": 32}}
    found = variants_of(sweep({"name": "size", "choices": choices}))
    assert [one.levels["size"] for one in found] == ["small", "large"]
    assert found[1].words({}) == ["width=16", "head.hidden=32"]


def test_a_factor_varies_where_it_has_a_meaning():
    heads = {"name": "fusion.heads", "values": [2, 4], "when": {"fusion": "attention"}}
    found = variants_of(sweep({"name": "fusion", "values": ["none", "attention"]}, heads))
    assert [one.words({}) for one in found] == [
        ["fusion=none"],
        ["fusion=attention", "fusion.heads=2"],
        ["fusion=attention", "fusion.heads=4"],
    ]


def test_values_are_drawn_and_come_out_again():
    rate = {"name": "optim.lr", "low": 1e-4, "high": 1e-2, "log": True}
    found = variants_of(sweep(*FACTORS, rate, sample=20))
    assert found == variants_of(sweep(*FACTORS, rate, sample=20))
    assert found != variants_of(sweep(*FACTORS, rate, sample=20, seed=1))
    assert len(found) == 20
    rates = [float(one.levels["optim.lr"]) for one in found]
    assert 1e-4 <= min(rates) < 1e-3 < max(rates) <= 1e-2
    with pytest.raises(ConfigError, match=r"optim\.lr is any value between low and high: say how many with sample=N"):
        variants_of(sweep(rate))


@pytest.mark.parametrize(
    ("factor", "message"),
    [
        ({"name": "width"}, "expected values, or choices, or low and high"),
        ({"name": "width", "values": [1], "low": 1, "high": 2}, "expected values, or choices, or low and high"),
        ({"name": "width", "low": 2}, "expected values, or choices, or low and high"),
        ({"name": "width", "low": 2, "high": 1}, "expected low < high"),
        ({"name": "width", "low": 0, "high": 1, "log": True}, "expected 0 < low < high"),
        ({"name": "config", "low": 1, "high": 2}, "config: expected values, paths of YAML files, or choices"),
        ({"name": "config", "values": [1]}, "config: expected values, paths of YAML files, or choices"),
        ({"name": "of", "choices": {"a": {"config": ["b"]}}}, r"config: expected the path of a YAML file, found \[b\]"),
        (
            {"name": "width", "values": [1], "when": {"fusion": "none"}},
            "when names fusion, which is no factor above it",
        ),
    ],
)
def test_a_factor_that_cannot_be_is_refused(factor, message, tmp_path):
    file = tmp_path / "sweep.yaml"
    file.write_text(json.dumps({"factors": [factor]}))
    with pytest.raises(ConfigError, match=message):
        load(SweepConfig, [file])


@pytest.mark.parametrize(
    ("settings", "factor", "message"),
    [
        ({"runs": "there"}, {}, "settings: runs is not a setting of a variant: give it as --runs"),
        ({"workers": 1}, {}, "settings: workers is not"),
        ({"method": "mine"}, {}, "settings: method is not"),
        ({"store": "other"}, {}, "settings: store is not.* give it as --store, or make it a factor"),
        ({"config": "file"}, {}, "settings: config is not"),
        ({}, {"name": "scheduler", "values": ["tcp://here"]}, "factor scheduler: scheduler is not"),
        ({}, {"name": "size", "choices": {"small": {"width": 8, "runs": "there"}}}, "factor size: runs is not"),
    ],
)
def test_what_no_variant_can_have_is_refused(settings, factor, message, store_path, tmp_path):
    file = tmp_path / "sweep.yaml"
    file.write_text(json.dumps({"settings": settings, "factors": [factor] if factor else []}))
    with pytest.raises(ConfigError, match=message):
        main_command(store=(str(store_path),), config=(file,), runs=tmp_path)


def test_configs_can_be_the_values_of_a_factor(tmp_path):
    files = [str(tmp_path / f"{seed}.yaml") for seed in (4, 5)]
    for file, seed in zip(files, (4, 5), strict=True):
        Path(file).write_text(f"seed: {seed}\nmethod: of_its_own\n")
    found = sweep({"name": "config", "values": files})
    variants = variants_of(found)
    assert [variant.levels for variant in variants] == [{"config": file} for file in files]
    assert [train_config(found, variant).seed for variant in variants] == [4, 5]


@pytest.mark.parametrize("name", ["variant", "state", "models", "dev", "why", "mean", "A"])
def test_a_factor_is_not_named_as_a_column_of_the_leaderboard(name, store_path, tmp_path):
    with pytest.raises(ConfigError, match=f"a factor is named {name}, as a column of the leaderboard"):
        begin(sweep({"name": name, "choices": {"x": {}, "y": {}}}), [str(store_path)], tmp_path, "wrong")


def test_a_factor_varies_beside_a_level_that_there_is():
    pooling = {"name": "pooling", "values": ["mean", "attention"]}
    hidden = {"name": "pooling.hidden", "values": [4, 8], "when": {"pooling": "max"}}
    with pytest.raises(ConfigError, match=r"when names pooling=max; its levels are mean, attention"):
        variants_of(sweep(pooling, hidden))


def test_a_variant_whose_settings_cannot_be_is_named(store_path, tmp_path):
    with pytest.raises(ConfigError, match=r"variant 1 \(width=-1\): .*width: Input should be greater than 0"):
        begin(sweep({"name": "width", "values": [8, -1]}), [str(store_path)], tmp_path, "wrong")
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def swept(store_path, tmp_path_factory):
    folder = SweepFolder(begin(sweep(), [str(store_path)], tmp_path_factory.mktemp("runs"), "small"))
    assert run_sweep(folder, 1, None, quiet) == 0
    return folder


@pytest.mark.usefixtures("warm_workers")
def test_a_variant_has_the_bits_of_the_same_config_alone(swept, store, tmp_path):
    for variant in swept.variants:
        alone, _ = run(
            store, load(TrainConfig, [], [*words_of(swept.config, variant), f"runs={tmp_path}", "workers=1"]), quiet
        )
        predictions = (swept.run(variant).path / "predictions.csv").read_bytes()
        assert predictions == (alone / "predictions.csv").read_bytes()
    with_two = SweepFolder(begin(swept.config, swept.note["stores"], tmp_path, "two"))
    run_sweep(with_two, 2, None, quiet)
    for variant in swept.variants:
        ours, theirs = (of.run(variant).path / "predictions.csv" for of in (swept, with_two))
        assert ours.read_bytes() == theirs.read_bytes()


def test_a_choice_begins_with_a_config(store_path, tmp_path):
    (tmp_path / "mine.yaml").write_text(
        "fusion: gated\noptim: {lr: 0.1, epochs: 9}\nsplits: {name: kfold, k: 5}\nseed: 3\n"
    )
    begun = {"name": "method", "choices": {"mine": {"config": str(tmp_path / "mine.yaml"), "optim.epochs": 4}, "b": {}}}
    config = load(
        SweepConfig, [], [f"factors={in_words([begun])}", "settings={splits: leave_one_out, optim: {lr: 0.2}}"]
    )
    mine, other = (train_config(config, variant) for variant in variants_of(config))
    assert (mine.fusion.name, mine.optim.epochs, mine.optim.lr, mine.seed) == ("gated", 4, 0.2, 3)
    assert (mine.splits.name, other.splits.name, other.seed) == ("leave_one_out", "leave_one_out", 0)
    folder = SweepFolder(begin(config, [str(store_path)], tmp_path, "mine"))
    (tmp_path / "mine.yaml").unlink()  # the sweep has what it says
    assert SweepFolder(folder.path).config == config
    assert "fusion=gated" in folder.command(folder.variants[0])
    with pytest.raises(ConfigError, match=r"mine\.yaml"):
        load(SweepConfig, [], [f"factors={in_words([begun])}"])


def test_stores_vary_where_they_hold_the_same_utterances(store_path, store, changed, tmp_path):
    other = tmp_path / "float16.zarr"
    copy_stores([store], other, dtype="float16")
    stores = {"name": "type", "choices": {"int8": {"store": str(store_path)}, "float16": {"store": str(other)}}}
    config = sweep(stores, {"name": "folds", "values": [[0]]})
    folder = SweepFolder(begin(config, [], tmp_path, "types"))
    assert run_sweep(folder, 1, None, quiet) == 0
    assert set(leaderboard(folder)["state"]) == {"done"}
    assert f"ser-train --store {other} " in folder.command(folder.variants[1])
    words = words_of(config, folder.variants[1])
    alone, _ = run(featurestore.open(other), load(TrainConfig, [], [*words, f"runs={tmp_path}", "workers=1"]), quiet)
    predictions = (folder.run(folder.variants[1]).path / "predictions.csv").read_bytes()
    assert predictions == (alone / "predictions.csv").read_bytes()
    assert predictions != (folder.run(folder.variants[0]).path / "predictions.csv").read_bytes()
    labelled = changed(store.utterances.assign(more=1.0)).path
    with pytest.raises(SerError, match=rf"{labelled} has other utterances or labels than {store_path}"):
        begin(sweep({"name": "store", "values": [str(store_path), str(labelled)]}), [], tmp_path, "other")


@pytest.mark.parametrize("searched", [False, True])
def test_stores_are_found_from_any_folder(copied, tmp_path, monkeypatch, searched):
    monkeypatch.chdir(copied.parent)
    types = {"name": "type", "choices": {"other": {"store": f"file://{copied}"}, "same": {"width": 8}}}
    stores = {"name": "store", "values": [copied.name], "when": {"type": "same"}}
    config = sweep(types, stores, **({"search": {"trials": 1}} if searched else {}))
    folder = SweepFolder(begin(config, [copied.name], tmp_path, "small").absolute())
    monkeypatch.chdir("/")
    variants = variants_of(folder.config.model_copy(update={"search": None})) if searched else folder.variants
    assert [variant.levels for variant in variants] == [{"type": "other"}, {"type": "same", "store": copied.name}]
    assert [folder.store(variant).path for variant in variants] == [str(copied)] * 2


def test_the_workers_of_a_scheduler_give_the_same_bits(swept, tmp_path):
    with LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None) as workers:
        folder = SweepFolder(begin(swept.config, swept.note["stores"], tmp_path, "elsewhere"))
        assert run_sweep(folder, None, workers.scheduler_address, quiet) == 0
    for variant in swept.variants:
        ours, theirs = (of.run(variant).path / "predictions.csv" for of in (swept, folder))
        assert ours.read_bytes() == theirs.read_bytes()


def test_the_leaderboard_is_what_the_runs_say(swept):
    table = leaderboard(swept)
    assert set(table["state"]) == {"done"}
    assert list(table["dev"]) == sorted(table["dev"], reverse=True)
    for _, row in table.iterrows():
        results = json.loads((swept.run(swept.variants[row["variant"]]).path / "metrics.json").read_text())
        assert row["V"] == results["results"]["model"]["V"]["value"]
        assert row["V_low"] == results["results"]["model"]["V"]["low"]
        assert row["dev"] == pytest.approx(sum(one["best_score"] for one in results["models"]) / 3)


def test_methods_are_compared_with_the_best_on_dev(swept):
    table = leaderboard(swept)
    first, second = methods_of(swept, table)
    assert {first.name, second.name} == {"fusion=none", "fusion=concat"}
    assert [len(one.variants) for one in (first, second)] == [2, 2]
    assert first.dev >= second.dev
    lines = found_lines(swept, table)
    assert lines[0].startswith(f"best on dev: {first.name}: mean 0.")
    assert "2 trainings, 6 speakers" in lines[0]
    assert lines[1].startswith(second.name)
    (difference,) = [
        one
        for one in compare_runs([swept.run(one).path for of in (first, second) for one in of.variants], 2).differences
        if one.target == "mean"
    ]
    assert f"{-difference.value:+.3f}" in lines[1]
    assert ("cannot be told apart" in lines[1]) == (difference.verdict == "not told apart")
    assert len(found_lines(swept, table[table["variant"] != 0])) == 1


def test_what_is_trained_is_not_trained_again(swept):
    before = {path: path.stat().st_mtime_ns for path in swept.path.rglob("models/*")}
    first = swept.run(swept.variants[0]).path
    lost = next(first.glob("models/*"))
    predictions = (first / "predictions.csv").read_bytes()
    lost.unlink()
    (first / "metrics.json").unlink()
    assert leaderboard(swept)["state"].value_counts().to_dict() == {"done": 3, "training": 1}
    run_sweep(SweepFolder(swept.path), 1, None, quiet)
    after = {path: path.stat().st_mtime_ns for path in swept.path.rglob("models/*")}
    assert {path for path in before if before[path] != after[path]} == {lost}
    assert (first / "predictions.csv").read_bytes() == predictions


def test_a_sweep_that_is_killed_with_its_workers_goes_on(swept, store_path, tmp_path):
    """First all processes are killed at once, then one of the workers of the resumed sweep."""
    config = {"settings": {**SETTINGS, "optim.epochs": 2}, "factors": FACTORS}
    (tmp_path / "small.yaml").write_text(json.dumps(config))
    sweeping = Command("train", "train.sweep.cli")
    words = ["--config", tmp_path / "small.yaml", "--store", store_path, "--runs", tmp_path, "--workers", 2]
    folder, running = tmp_path / "toy/sweep/small/exp_1", sweeping.start(*words)
    while not (done := [*folder.glob("variants/*/models/*")]):
        time.sleep(0.05)
    for process in [*_workers(running), psutil.Process(running.pid)]:
        process.kill()
    running.wait()
    before = {path: path.stat().st_mtime_ns for path in done}
    running = sweeping.start("resume", folder, "--workers", 2)
    while len([*folder.glob("variants/*/models/*")]) < len(before) + 2:
        time.sleep(0.05)
    _workers(running)[0].kill()
    ended = running.wait()
    assert ended.returncode == 0, ended.stderr
    assert {path: path.stat().st_mtime_ns for path in before} == before
    for variant in swept.variants:
        ours, theirs = (of.run(variant).path / "predictions.csv" for of in (swept, SweepFolder(folder)))
        assert ours.read_bytes() == theirs.read_bytes()
    assert leaderboard(SweepFolder(folder)).equals(leaderboard(swept))


def _workers(running):
    """Return the processes of dask's workers."""
    children = psutil.Process(running.pid).children(recursive=True)
    return [child for child in children if "spawn_main" in " ".join(child.cmdline())]


def test_a_variant_that_cannot_be_trained_does_not_stop_the_others(store_path, tmp_path):
    layers = {"name": "streams.speech.layers", "values": [1, 9]}
    folder, lines = SweepFolder(begin(sweep(layers), [str(store_path)], tmp_path, "layers")), []
    assert run_sweep(folder, 1, None, lines.append) == 1
    table = leaderboard(folder).set_index("variant")
    assert list(table["state"].loc[[0, 1]]) == ["done", "failed"]
    assert "9" in table["why"][1]
    assert any(line.startswith("failed: 1: streams.speech.layers=9: ") for line in lines)
    trained = (folder.run(folder.variants[0]).path / "metrics.json").stat().st_mtime_ns
    assert run_sweep(SweepFolder(folder.path), 1, None, lines.append) == 1  # it is tried again, the other is not
    assert (folder.run(folder.variants[0]).path / "metrics.json").stat().st_mtime_ns == trained


def test_a_variant_that_needs_more_memory_than_there_is_does_not_stop_the_others(store_path, tmp_path):
    """A hidden layer of 34 GB, where a process may have 17."""
    wide = {"name": "pyramid", "levels": [128]}
    large = {"fusion": "none", "width": 8192, "pooling": wide, "head.hidden": 8192}
    sizes = {"small": {"fusion": "none"}, "large": large}
    folder = SweepFolder(begin(sweep({"name": "size", "choices": sizes}), [str(store_path)], tmp_path, "sizes"))
    limit = getrlimit(RLIMIT_AS)
    setrlimit(RLIMIT_AS, (2**34, limit[1]))
    try:
        assert run_sweep(folder, 1, None, quiet) == 1
    finally:
        setrlimit(RLIMIT_AS, limit)
    table = leaderboard(folder).set_index("variant")
    assert list(table["state"].loc[[0, 1]]) == ["done", "failed"]
    assert "there is not enough memory" in table["why"][1]
    assert "a smaller width or optim.batch_size" in table["why"][1]


@pytest.mark.parametrize(
    "value", [None, True, 3, 0.5, 1e-5, "ccc", "a b", "null", "1", "a: b", [1, "x, y"], {"name": "concat", "x": None}]
)
def test_values_are_written_as_overrides_read_them(value):
    assert parse(in_words(value)) == value


def test_what_is_seen_of_a_sweep_follows_its_models(swept):
    by_path = {str(swept.run(one).path): one for one in swept.variants[:2]}
    seen = []
    live = SweepLive(swept, by_path, {0: 3, 1: 3}, lambda live: seen.append(live.line))
    before = swept.epochs()
    paths = list(by_path)
    for fold, epoch, dev in ((0, 1, 0.25), (0, 2, 0.125)):
        live.epoch({"run": paths[0], "fold": fold, "member": 0, "again": False, "epoch": epoch, "dev": dev})
    assert seen[-1].startswith("0 of 2 variants, at most ")
    assert seen[-1].endswith("; 0: fold 0, epoch 2, best on dev 0.250")
    assert len(swept.epochs()) == len(before) + 2
    live.model_done(by_path[paths[0]], 0, 0)
    live.variant_done(by_path[paths[0]], failed=True)
    live.variant_done(by_path[paths[0]], failed=True)  # another model of it
    live.epoch({"run": paths[0], "fold": 1, "member": 0, "again": False, "epoch": 1, "dev": 0.5})
    assert live.summary.startswith("0 of 2 variants, 1 failed")
    live.epoch({"run": paths[1], "fold": 1, "member": 0, "again": False, "epoch": 1, "dev": 0.5})
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(live.table())
    assert "fold 1, epoch 1" in console.export_text()


def test_the_time_left_of_a_sweep_is_of_the_epochs_that_may_come(swept, monkeypatch):
    """See `test_options`: of two epochs the first was before the sweep was resumed."""
    by_path = {str(swept.run(one).path): one for one in swept.variants[:2]}
    path, now = next(iter(by_path)), [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    live = SweepLive(swept, by_path, {0: 3, 1: 3}, lambda _: None)
    assert live.summary == "0 of 2 variants"
    now[0] = 60.0
    live.epoch({"run": path, "fold": 0, "member": 0, "again": False, "epoch": 2, "dev": 0.5})
    assert live.summary == "0 of 2 variants, at most 10 min left"
    live.model_done(by_path[path], 0, 0)
    assert live.summary == "0 of 2 variants, at most 10 min left"
    live.variant_done(by_path[path])
    assert live.summary == "1 of 2 variants, at most 6 min left"


def test_a_plan_says_what_it_takes_and_trains_nothing(store_path, tmp_path):
    layers = {"name": "streams.speech.layers", "values": [0, 1, 9]}
    lines = list(plan_lines(sweep(layers, {"name": "seed", "values": [0, 1, 2]}), [str(store_path)], 2))
    assert lines[0] == "9 variants of 3 methods"
    assert lines[1].startswith("cannot be trained: streams.speech.layers=9, seed=0: states has 3 layers")
    each = [re.fullmatch(r"\d+ s of one core: streams.speech.layers=(\d)", line) for line in lines[2:4]]
    assert {one and one[1] for one in each} == {"0", "1"}
    assert re.fullmatch(r"reads: \d+\.\d MB, which all variants share: frames of states, frames of pitch", lines[4])
    assert re.fullmatch(r"memory: 2 processes of \d+\.\d\d GB, .*", lines[5])
    assert re.fullmatch(
        r"time: 18 models, training takes about \d+ s with 2 processes .*; measured on 3 steps of 2 methods", lines[6]
    )


def test_a_plan_counts_what_all_methods_read(store_path):
    layers = {"name": "streams.speech.layers", "values": [0, 1, 2]}
    sizes = {"name": "head.hidden", "values": [4, 5, 6, 7, 8]}
    few, many = (
        next(line for line in plan_lines(sweep(layers, *more), [str(store_path)], 2) if line.startswith("reads"))
        for more in ((), (sizes,))
    )
    assert few == many


def test_packs_hold_no_more_than_they_may():
    held = [4e8, 4e8, 4e8, 3e9, 1e8, *[0.0] * 5]
    packs = [*_side_by_side([((str(number), Job(0, 0)), size) for number, size in enumerate(held)], 3)]
    assert ["".join(path for path, _ in pack) for pack in packs] == ["01", "2", "3", "456", "789"]


def test_a_run_that_cannot_be_loaded_is_a_pack_of_its_own(swept, tmp_path):
    path = str(swept.run(swept.variants[0]).path)
    packs = packed([(path, Job(0, 0)), (str(tmp_path), Job(0, 0)), (path, Job(1, 0))], 1)
    assert [(str(tmp_path), Job(0, 0))] in packs
    assert do_pack([(str(tmp_path), Job(0, 0))], quiet) == [f"{tmp_path} is no run of ser-train: it has no config.yaml"]


def test_what_breaks_in_one_variant_does_not_stop_the_others(swept, tmp_path, capfd):
    broken, whole = tmp_path / "broken", swept.run(swept.variants[0]).path
    shutil.copytree(whole, broken)
    note = json.loads((broken / "run.json").read_text())
    (broken / "run.json").write_text(json.dumps({**note, "goals": {"wrong": {}}}))
    why, good = do_variants([(str(broken), None), (str(whole), None)], quiet)
    assert why.startswith("KeyError: ")
    assert "please report it" in why
    assert good is None
    assert "Traceback" in capfd.readouterr().err


def test_only_one_process_trains_in_a_sweep(swept):
    with owned(swept.path), pytest.raises(SerError, match="another process trains in"), owned(swept.path):
        pass
    with owned(swept.path):
        pass


def test_the_leaderboard_shows_what_is_trained_below_the_best(swept):
    table = leaderboard(swept)
    table.loc[table.index[-1], "state"] = "training"
    assert [row[0] for row in [*leaderboard_lines(table, 1)][1:]] == [str(table["variant"][n]) for n in (0, 3)]


def test_a_plan_ends_where_its_measurement_is_ended(store_path):
    before = active_children()

    def end():
        while not (measuring := [child for child in active_children() if child not in before]):
            time.sleep(0.01)
        measuring[0].kill()

    ending = Thread(target=end)
    ending.start()
    with pytest.raises(SerError, match="the process that measures was ended at method 0 of 2: does it lack memory"):
        list(plan_lines(sweep(), [str(store_path)], 1))
    ending.join()


def test_a_share_of_the_training_part_trains(store, tmp_path):
    settings = ["fusion=none", "splits.k=3", "width=8", "optim.epochs=1", "plots=false", "folds=[0]", "workers=1"]
    folders = {}
    for share in (0.5, 1):
        config = load(TrainConfig, [], [*settings, f"train_share={share}", f"runs={tmp_path}"])
        folders[share], results = run(store, config, quiet)
        assert results["utterances"] == {"train": [round(32 * share)], "dev": [32], "test": [32]}
    half, whole = (RunFolder(folder).fold(0) for folder in folders.values())
    assert set(half.train) < set(whole.train)
    assert (half.dev, half.test) == (whole.dev, whole.test)
    assert share_of(whole.train, 0.25) == share_of(half.train, 0.5)


def test_layers_by_stored_means_can_have_equal_weights(store):
    config = load(
        TrainConfig, [], ["fusion=none", "streams.speech={feature: states, front: {name: pooled, learned: false}}"]
    )
    model = make_model(load_examples(store, config), config, 0)
    assert model.layer_weights() == {}


def searched(trials, **more):
    rate = {"name": "optim.lr", "low": 1e-6, "high": 1e-1, "log": True}
    return sweep({"name": "fusion", "values": ["none", "concat"]}, rate, search={"trials": trials, "random": 2, **more})


def test_a_search_learns_from_dev_and_goes_on_where_it_was(store_path, tmp_path):
    optuna = pytest.importorskip("optuna")
    folder, lines = SweepFolder(begin(searched(5), [str(store_path)], tmp_path, "search")), []
    assert run_search(folder, 1, None, lines.append) == 0
    assert len(folder.variants) == len(lines) == 5
    table = leaderboard(folder).set_index("variant")
    storage = optuna.storages.JournalStorage(
        optuna.storages.journal.JournalFileBackend(str(folder.path / "study.journal"))
    )
    for trial in optuna.load_study(study_name="sweep", storage=storage).trials:
        if trial.state == optuna.trial.TrialState.COMPLETE:
            assert trial.value == pytest.approx(table["dev"][trial.number])
            assert table["state"][trial.number] == "done"
        else:
            assert trial.state == optuna.trial.TrialState.PRUNED
            assert table["state"][trial.number] == "given up"
    before = {path: path.stat().st_mtime_ns for path in folder.path.rglob("models/*")}
    again = SweepFolder(folder.path)
    assert run_search(again, 1, None, quiet) == 0  # there is nothing left
    assert {path: path.stat().st_mtime_ns for path in folder.path.rglob("models/*")} == before
    assert load(SweepConfig, [], ["search.trials=3"]).search.prune
    assert variants_of(searched(3)) == []


def test_an_interrupted_search_proposes_the_same(store_path, tmp_path):
    pytest.importorskip("optuna")
    folders = [SweepFolder(begin(searched(6, random=4), [str(store_path)], tmp_path, "search")) for _ in range(2)]
    assert run_search(folders[0], 1, None, quiet) == 0

    def interrupt(line):
        if line.startswith(("1:", "4:")):
            raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run_search(SweepFolder(folders[1].path), 1, None, interrupt)
    assert run_search(SweepFolder(folders[1].path), 1, None, quiet) == 0
    whole, parts = (SweepFolder(folder.path).variants for folder in folders)
    assert whole == parts
    assert len({str(one.settings) for one in whole}) == 6


def test_what_fails_in_a_search_is_tried_again(store_path, tmp_path):
    pytest.importorskip("optuna")
    layers = {"name": "streams.speech.layers", "values": [1, 9]}
    rate = {"name": "optim.lr", "low": 1e-4, "high": 1e-2}
    config = sweep(layers, rate, search={"trials": 6, "random": 6})
    folder, lines = SweepFolder(begin(config, [str(store_path)], tmp_path, "search")), []
    failed = run_search(folder, 1, None, lines.append)
    assert 0 < failed < 6
    again = []
    assert run_search(SweepFolder(folder.path), 1, None, again.append) == failed
    assert {line.split(":")[1] for line in again} == {line.split(":")[1] for line in lines if "failed" in line}


def test_a_search_that_has_not_begun_has_a_status_and_a_report(store_path, tmp_path):
    folder = SweepFolder(begin(searched(3), [str(store_path)], tmp_path, "search"))
    assert not len(leaderboard(folder))
    assert list(leaderboard_lines(with_progress(leaderboard(folder), folder))) == [
        ("variant", "state", "models", "at", "dev")
    ]
    assert write_report(folder).is_file()


def test_a_search_trains_no_variant_twice(store_path, tmp_path):
    pytest.importorskip("optuna")
    wide = {"name": "width", "values": [4, 8]}
    config = sweep({"name": "fusion", "values": ["none", "concat"]}, wide, search={"trials": 12, "random": 12})
    folder, lines = SweepFolder(begin(config, [str(store_path)], tmp_path, "search")), []
    assert run_search(folder, 1, None, lines.append) == 0
    numbers = [variant.number for variant in folder.variants]
    assert len(numbers) <= 4
    assert numbers != [*range(len(numbers))]  # one came again before all had come
    assert sum("and not trained again" in line for line in lines) == 12 - len(numbers)
    write_report(folder)
    assert sorted(pd.read_csv(folder.path / "report" / "variants.csv")["variant"]) == numbers


def test_the_status_says_how_many_variants_it_does_not_show(store_path, tmp_path, capsys):
    rates = {"name": "optim.lr", "values": [rate / 2**12 for rate in range(1, 26)]}
    path = begin(sweep(rates), [str(store_path)], tmp_path, "many")
    assert status(path) == 0
    printed = capsys.readouterr().out
    assert len([line for line in printed.splitlines() if "  waiting" in line]) == 20
    assert f"and 5 more variants: ser-sweep report {path} writes all of them" in printed
