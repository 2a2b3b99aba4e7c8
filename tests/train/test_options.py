"""Settings that cannot be, disks that are full, stores behind URLs, and ser-train in a pipe or interrupted."""

import io
import os
import re
import resource
import signal
import subprocess
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch

from featurestore.config import load
from featurestore.copying import copy_stores
from featurestore.errors import ConfigError, SerError
from train.config import OptimConfig, TrainConfig
from train.examples import load_examples
from train.files import write_whole
from train.loop import _rate
from train.run import make_run_folder, run

QUICK = ["splits.k=3", "width=8", "optim.epochs=2", "threads=1", "baseline=false"]
MAIN = [sys.executable, "-W", "error", "-c", "from train.cli import main; main()"]


def ser_train(*words, **how):
    return subprocess.run([*MAIN, *map(str, words)], capture_output=True, text=True, check=False, **how)


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
        "fusion.embedding={name: cnn, layers: 1000000}",
        "fusion.embedding={name: cnn, kernel: 1000000001}",
        "threads=100000",
        "threads=0",
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
        "method=../../elsewhere",
        "method=..",
        "method=''",
        "method=" + "x" * 300,
        "dropout=1",
        "targets=V",
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


def test_runs_where_no_folder_can_be(store, store_path, tmp_path):
    (tmp_path / "file").write_text("")
    for runs, reason in ((tmp_path / "file", "Not a directory"), ("/dev/null/x", "Not a directory")):
        result = ser_train("--store", store_path, *QUICK, f"runs={runs}")
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


def limit_files(size):
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def test_a_file_that_cannot_be_written_is_named_and_not_half_there(store_path, tmp_path):
    result = ser_train("--store", store_path, *QUICK, f"runs={tmp_path}", preexec_fn=limit_files(8000))
    assert result.returncode == 1
    (folder,) = tmp_path.glob("toy/states/attention/exp_1")
    assert result.stderr == f"ser-train: {folder / 'best_model.pth'} cannot be written: File too large\n"
    assert not {"best_model.pth", "metrics.json", ".best_model.pth.part"} & {file.name for file in folder.iterdir()}


@pytest.mark.parametrize(("size", "file"), [(500, "config.yaml"), (2500, "metrics.jsonl")])
def test_a_log_that_cannot_be_written(store_path, tmp_path, size, file):
    words = ["--store", store_path, *QUICK, "optim.epochs=20", f"runs={tmp_path}"]
    result = ser_train(*words, preexec_fn=limit_files(size))
    assert result.returncode == 1
    assert result.stderr == (
        f"ser-train: {tmp_path}/toy/states/attention/exp_1/{file} cannot be written: File too large\n"
    )


def test_a_whole_file_takes_the_place_of_another(tmp_path):
    write_whole(tmp_path / "a", "one")
    write_whole(tmp_path / "a", b"two")
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("a", b"two")]
    with pytest.raises(SerError, match=r"nowhere/a cannot be written: No such file"):
        write_whole(tmp_path / "nowhere/a", "x")


def test_a_lack_of_memory_is_one_line(store_path, tmp_path):
    settings = ["width=8192", "fusion.heads=1", "splits.k=6", "threads=1", f"runs={tmp_path}"]
    limit = 4 << 30
    result = ser_train(
        "--store", store_path, *settings, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    )
    assert (result.returncode, len(result.stderr.splitlines())) == (1, 1)
    assert result.stderr.startswith("ser-train: there is not enough memory: ")


def test_a_reader_that_stops_early_does_not_stop_the_training(store_path, tmp_path):
    words = [*MAIN, "--store", str(store_path), *QUICK, f"runs={tmp_path}"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0
    assert (tmp_path / "toy/states/attention/exp_1/metrics.json").exists()
    assert "epoch   2" in (tmp_path / "toy/states/attention/exp_1/train_log.txt").read_text()


def test_ctrl_c_says_what_is_left(store_path, tmp_path):
    words = [*MAIN, "--store", str(store_path), *QUICK, "optim.epochs=1000", "optim.patience=1000", f"runs={tmp_path}"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while "epoch   2" not in process.stdout.readline():
            pass
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert (
        err
        == "ser-train: interrupted: what the run has written stays in its folder; the same command starts another run\n"
    )


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


def test_a_store_behind_a_url(served, store_path, tmp_path):
    env = {**os.environ, "NO_PROXY": "127.0.0.1"}
    found = []
    for store in (store_path, f"{served}/toy.zarr", f"{served}/toy.h5"):
        result = ser_train("--store", store, *QUICK, f"runs={tmp_path}", env=env)
        assert (result.returncode, result.stderr) == (0, "")
        folder = tmp_path / f"toy/states/attention/exp_{len(found) + 1}"
        assert f"--store {store}" in (folder / "config.yaml").read_text()
        found.append((folder / "predictions.csv").read_bytes())
    assert found[0] == found[1] == found[2]


def test_small_batches_train_without_a_warning(store, tmp_path):
    for size in (2, 3):
        settings = [*QUICK, f"optim.batch_size={size}", "optim.epochs=1", f"runs={tmp_path}"]
        run(store, load(TrainConfig, [], settings), lambda _: None)
    examples = load_examples(store, load(TrainConfig))
    assert len(list(examples.batches(torch.arange(96), 5, seed=0))) == 20


def test_the_learning_rate_rises_and_falls():
    optim, steps = OptimConfig(epochs=10, warmup=2.0), 7
    rates = [_rate(step, optim.warmup * steps, optim.epochs * steps) for step in range(optim.epochs * steps)]
    assert rates[0] == pytest.approx(1 / 14, rel=1e-3)
    assert rates.index(max(rates)) == 13
    assert rates[14:] == sorted(rates[14:], reverse=True)
    assert 0 < rates[-1] < 0.001
    assert _rate(0, 0.0, 10) == 1.0


def test_training_again_says_how_far_it_is(store, tmp_path):
    lines = []
    config = load(TrainConfig, [], [*QUICK, "optim.refit=true", f"runs={tmp_path}"])
    folder, results = run(store, config, lines.append)
    again = [line for line in lines if line.startswith("again, epoch")]
    assert len(again) == max(results["best_epochs"])
    assert again[0].startswith("again, epoch   1: 3 in training, loss ")
    written = (folder / "metrics.jsonl").read_text().splitlines()
    assert sum('"refit": true' in line for line in written) == sum(results["best_epochs"])
    assert "NaN" not in (folder / "metrics.jsonl").read_text()
