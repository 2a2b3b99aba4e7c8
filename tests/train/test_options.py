"""Settings that cannot be, disks that are full, stores behind URLs, and ser-train in a pipe or interrupted."""

import io
import json
import math
import os
import re
import signal
import threading
import time
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

import featurestore
from featurestore.operations.copying import copy_stores
from featurestore.shared.config import load
from featurestore.shared.errors import ConfigError, SerError
from train.config import OptimConfig, TrainConfig
from train.models.schedule import count_batches, epoch_order, learning_rate
from train.running.folder import RunFolder, make_run_folder
from train.running.live import Live
from train.running.run import run
from train.running.work import Job
from train.shared.files import write_whole

QUICK = ["splits.k=3", "width=8", "optim.epochs=2", "workers=1", "baseline=false", "plots=false"]


@pytest.mark.parametrize(
    "setting",
    [
        "seed=-1",
        "seed=99999999999999999999",
        "seed=1.5",
        "width=1000000000",
        "width=0",
        "head.hidden=1000000000",
        "fusion={name: concat, width: 1000000000}",
        "streams.pitch.embedding={name: cnn, layers: 1000000}",
        "streams.pitch.embedding={name: cnn, kernel: 1000000001}",
        "streams.pitch.width=1000000000",
        "streams.pitch.width=0",
        "workers=100000",
        "workers=0",
        "members=0",
        "members=100000",
        "folds=1",
        "missing=never",
        "weights=none",
        "tasks.V={name: regression, weight: 0}",
        "tasks.V={name: regression, loss: cross_entropy}",
        "tasks.e={name: classification, loss: ccc}",
        "splits.seed=-1",
        "splits.seed=99999999999999999999",
        "splits.k=2",
        "optim.epochs=99999999999999999999",
        "optim.batch_size=99999999999999999999",
        "optim.lr=1e300",
        "optim.layer_lr=1e300",
        "optim.weight_decay=1e300",
        "optim.warmup=1e300",
        "optim.clip=.inf",
        "optim.betas=[1,0.9]",
        "optim.betas=[0.9]",
        "optim.schedule=falling",
        "method=../../elsewhere",
        "method=..",
        "method=''",
        "method=" + "x" * 300,
        "streams.speech.dropout=1",
    ],
)
def test_settings_are_bounded(setting):
    with pytest.raises(ConfigError) as error:
        load(TrainConfig, [], [setting])
    assert str(error.value).startswith("override ")
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("device", ["nonsense", "meta", "cuda:99", "cpu:x", "xla", "gpu", "mps:7"])
def test_devices_that_cannot_be_used(store, tmp_path, device):
    with pytest.raises(SerError, match=f"device={device} cannot be used: "):
        run(store, load(TrainConfig, [], [*QUICK, f"device={device}", f"runs={tmp_path}"]), lambda _: None)
    assert not list(tmp_path.iterdir())


def test_more_folds_than_there_can_be(store):
    with pytest.raises(SerError, match="folds need at least as many speakers, the store has 6"):
        run(store, load(TrainConfig, [], ["splits.k=99999999999999999999"]), lambda _: None)
    settings = ["splits={name: leave_one_out, dev_groups: 99999999999999999999}"]
    with pytest.raises(SerError, match="leave one speaker out needs"):
        run(store, load(TrainConfig, [], settings), lambda _: None)


@pytest.mark.parametrize("column", ["nothing", "name", "path"])
def test_groups_that_are_not_there(store, column):
    with pytest.raises(SerError, match=f"splits by {column} need every utterance's {column}, found it for 0 of 96"):
        run(store, load(TrainConfig, [], [f"splits.group={column}"]), lambda _: None)


def test_runs_where_no_folder_can_be(commands, store_path, tmp_path):
    (tmp_path / "file").write_text("")
    for runs, reason in ((tmp_path / "file", "Not a directory"), ("/dev/null/x", "Not a directory")):
        result = commands.run("--store", store_path, *QUICK, f"runs={runs}")
        assert result.returncode == 1
        assert re.fullmatch(rf"ser-train: no folder .* in {runs}/toy/.*: {reason}; .*runs=\n", result.stderr)
    settings = tmp_path / "zero.yaml"
    settings.write_text('runs: "a\\0b"')
    with pytest.raises(SerError, match="embedded null byte"):
        make_run_folder(load(TrainConfig, [settings]), "toy", "states")


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_runs_without_rights(store, tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(SerError, match="Permission denied"):
        run(store, load(TrainConfig, [], [*QUICK, f"runs={tmp_path}"]), lambda _: None)


@pytest.mark.parametrize("name", ["../../x", "..", ".", "", "a/b", "/etc"])
def test_a_store_does_not_choose_where_runs_go(tmp_path, name):
    runs = tmp_path / "runs"
    folder = make_run_folder(load(TrainConfig, [], [f"runs={runs}"]), name, name)
    assert folder.parents[3].samefile(runs)


def test_run_folders_are_numbered_on(tmp_path):
    config = load(TrainConfig, [], [f"runs={tmp_path}"])
    assert make_run_folder(config, "d", "e").name == "exp_1"
    for odd in ("exp_x", "exp_²", "exp_7"):
        (tmp_path / "d/e/attention" / odd).mkdir()
    assert make_run_folder(config, "d", "e").name == "exp_8"


@pytest.mark.parametrize(
    ("size", "file", "where"),
    [
        (500, "config.yaml", ""),
        (8000, "checkpoints/fold_0_member_0.safetensors", "fold 0: "),
        (24000, "plots/layer_weights.svg", ""),
    ],
)
def test_a_file_that_cannot_be_written_is_named_and_not_half_there(commands, store_path, tmp_path, size, file, where):
    settings = [*QUICK, "fusion=none", "head.hidden=32", "optim.epochs=1", "plots=true", f"runs={tmp_path}"]
    result = commands.run("--store", store_path, *settings, FSIZE=size)
    assert result.returncode == 1
    (folder,) = tmp_path.glob("toy/states/none/exp_1")
    assert result.stderr == f"ser-train: {where}{folder / file} cannot be written: File too large\n"
    assert not (folder / file).exists()
    assert not (folder / "metrics.json").exists()
    assert not list(folder.rglob(".*"))


def test_a_log_that_cannot_be_written(commands, store_path, tmp_path):
    small = ["fusion=none", "head=linear", "optim.epochs=30", "optim.patience=30"]
    words = ["--store", store_path, *QUICK, *small, f"runs={tmp_path}"]
    result = commands.run(*words, FSIZE=16000)
    assert result.returncode == 1
    assert result.stderr == (
        f"ser-train: fold 2: {tmp_path}/toy/states/none/exp_1/metrics.jsonl cannot be written: File too large\n"
    )


def test_a_whole_file_takes_the_place_of_another(tmp_path):
    write_whole(tmp_path / "a", "one")
    write_whole(tmp_path / "a", b"two")
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("a", b"two")]
    with pytest.raises(SerError, match=r"nowhere/there/a cannot be written: No such file"):
        write_whole(tmp_path / "nowhere/there/a", "x")


def test_a_lack_of_memory_is_one_line(commands, store_path, tmp_path):
    settings = ["width=8192", "fusion.heads=1", "splits.k=6", "workers=1", f"runs={tmp_path}"]
    result = commands.run("--store", store_path, *settings, memory=1 << 30)
    assert (result.returncode, len(result.stderr.splitlines())) == (1, 1)
    assert result.stderr.startswith("ser-train: there is not enough memory: ")


def test_a_reader_that_stops_early_does_not_stop_the_training(commands, store_path, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    running = commands.start("--store", store_path, *QUICK, f"runs={tmp_path}", stdout=pipe)
    with pipe.open() as file:
        file.readline()
    ended = running.wait()
    assert (ended.returncode, ended.stderr) == (0, "")
    assert (tmp_path / "toy/states/attention/exp_1/metrics.json").exists()
    log = (tmp_path / "toy/states/attention/exp_1/train_log.txt").read_text()
    assert "\nfold 2, member 0: " in log


def test_ctrl_c_says_how_to_go_on(commands, store_path, tmp_path):
    words = ["--store", store_path, *QUICK, "optim.epochs=1000", "optim.patience=1000", f"runs={tmp_path}"]
    folder = tmp_path / "toy/states/attention/exp_1"
    running = commands.start(*words)
    while not ((folder / "metrics.jsonl").exists() and len((folder / "metrics.jsonl").read_text().splitlines()) > 1):
        time.sleep(0.05)
    running.send(signal.SIGINT)
    done = running.wait()
    assert (done.returncode, done.stderr) == (130, "ser-train: interrupted\n")
    line = f"interrupted: ser-train resume {folder} goes on from the last epoch of each model"
    assert done.stdout.splitlines()[-1] == line
    assert (folder / "train_log.txt").read_text().splitlines()[-1] == line


class WithRanges(SimpleHTTPRequestHandler):
    """A web server of files that answers requests for ranges of them."""

    def log_message(self, *_):
        pass

    def send_head(self):
        path, asked = self.translate_path(self.path), re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers["Range"] or "")
        if not asked or not os.path.isfile(path):
            return super().send_head()
        size = os.path.getsize(path)
        first, last = int(asked[1]), min(int(asked[2] or size), size - 1)
        with open(path, "rb") as file:
            file.seek(first)
            content = file.read(last - first + 1)
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        return io.BytesIO(content)


@pytest.fixture
def served(store, store_path, tmp_path):
    """The store in both forms behind a URL."""
    pytest.importorskip("aiohttp", reason="aiohttp is not installed")
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "toy.zarr").symlink_to(store_path)
    copy_stores([store], folder / "toy.h5", features=(), dtype=None, compress=None, report=lambda *_: None)

    def handler(*arguments):
        return WithRanges(*arguments, directory=folder)

    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_store_behind_a_url(served, store_path, tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    found = []
    for store in (store_path, f"{served}/toy.zarr", f"{served}/toy.h5"):
        config = load(TrainConfig, [], [*QUICK, "fusion=none", "folds=[1]", "optim.epochs=1", f"runs={tmp_path}"])
        folder, _ = run(featurestore.open(store), config, lambda _: None)
        assert f"--store {store}" in (folder / "config.yaml").read_text()
        found.append((folder / "predictions.csv").read_bytes())
    assert found[0] == found[1] == found[2]


def test_small_batches_train_without_a_warning(store, tmp_path):
    for size in (2, 3):
        settings = [*QUICK, f"optim.batch_size={size}", "optim.epochs=1", f"runs={tmp_path}"]
        run(store, load(TrainConfig, [], settings), lambda _: None)


@pytest.mark.parametrize("utterances", [2, 3, 5, 31, 32, 33, 96, 97])
@pytest.mark.parametrize("size", [2, 3, 5, 32])
def test_no_batch_has_one_utterance_alone(utterances, size):
    rows = np.arange(utterances)
    order = epoch_order(rows, rows, size, np.random.default_rng(0))
    sizes = [len(batch) for batch in order]
    assert len(order) == count_batches(utterances, size)
    assert min(sizes) >= 2
    assert max(sizes) <= max(size, 3)
    assert max(sizes) - min(sizes) <= 1
    assert sorted(np.concatenate(order)) == rows.tolist()


def test_the_learning_rate_rises_and_falls():
    optim, steps = OptimConfig(epochs=10, warmup=2.0), 7
    total = optim.epochs * steps
    rates = [learning_rate(step, optim.warmup * steps, total) for step in range(total)]
    assert rates[0] == pytest.approx(1 / 14, rel=1e-3)
    assert rates.index(max(rates)) == 13
    assert rates[14:] == sorted(rates[14:], reverse=True)
    assert 0 < rates[-1] < 0.001
    assert learning_rate(0, 0.0, 10) == 1.0
    assert [learning_rate(step, 2, 4, "constant") for step in range(4)] == [0.5, 1, 1, 1]


def test_training_again_is_in_the_file_of_epochs(store, tmp_path):
    config = load(TrainConfig, [], [*QUICK, "optim.refit=true", f"runs={tmp_path}"])
    folder, results = run(store, config, lambda _: None)
    written = (folder / "metrics.jsonl").read_text().splitlines()
    assert sum('"again": true' in line for line in written) == sum(model["best_epoch"] for model in results["models"])
    assert "NaN" not in (folder / "metrics.jsonl").read_text()
    models, shown = [Job(fold, 0) for fold in range(len(results["models"]))], []
    live = Live(RunFolder(folder), models, "CCC", lambda done, of, text: shown.append(text), lambda _: None)
    cost = dict.fromkeys(("read", "train", "select", "utterances", "frames"), 0)  # is not in the file of a finished run
    for line in written:
        live.epoch({"dev": math.nan, **cost, **json.loads(line)})
    for line, text in zip(map(json.loads, written), shown, strict=True):
        own = f", dev CCC {line['dev']:.3f}, " if "dev" in line else ", "
        again = "again, " if line["again"] else ""
        assert text.startswith(f"{again}fold {line['fold']}, member 0 epoch {line['epoch']}{own}")


def test_the_time_left_is_of_the_epochs_that_may_come(store, tmp_path, monkeypatch):
    """Epochs of before a run was resumed are done, but say nothing of its speed, as those that no model needed."""
    config = load(TrainConfig, [], [*QUICK, "optim.epochs=4", "optim.patience=4", f"runs={tmp_path}"])
    folder, _ = run(store, config, lambda _: None)
    now, shown = [0.0], []
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    live = Live(RunFolder(folder), [Job(0, 0), Job(1, 0)], "CCC", lambda *all_: shown.append(all_), lambda _: None)
    now[0] = 60.0
    cost = {"again": False, "dev": 0.5, "loss": 1.0, "read": 0, "train": 60, "select": 0, "utterances": 1, "frames": 1}
    live.epoch({"fold": 0, "member": 0, "epoch": 3, **cost})
    live.done(Job(0, 0))  # it stops early
    assert [share for share, _, _ in shown] == [0.75, 1]
    assert [total for _, total, _ in shown] == [2, 2]
    assert [text.rpartition(", ")[2] for _, _, text in shown] == ["at most 5 min left", "at most 4 min left"]
