"""Shards on many processes: the same bytes, whoever does the work and whoever dies."""

import os
import re
import signal
import time
from collections import deque
from itertools import count

import psutil
import pytest
import soundfile
from distributed import LocalCluster

import featurestore
from extract.config import ExtractConfig
from extract.jobs import on_cluster, side_by_side
from extract.planning import plan
from extract.run import extract
from extract.source import read_source
from extract.work import READING, WRITING, Spent, do_jobs
from featurestore.access.writer import StoreWriter
from featurestore.shared.config import load
from featurestore.shared.errors import ConfigError, SerError
from tests.extract.samples import noise, ser_extract

ENCODER = "hubert-tiny-untrained"
pytestmark = pytest.mark.usefixtures("warm_workers")
NO_DASHBOARD = {"dashboard": False, "dashboard_address": "localhost:0"}  # its usual port may be taken
FEATURES = ["pitch={}", "logmel={}", f"encoder.checkpoint={ENCODER}"]


def asked(root, store, *overrides):
    return load(ExtractConfig, [], ["dataset=csv", f"dataset.root={root}", f"store={store}", *FEATURES, *overrides])


def files(path):
    return {str(f.relative_to(path)): f.read_bytes() for f in path.rglob("*") if f.is_file()}


@pytest.fixture
def many(tmp_path):
    """Clips of 4 s, one of them broken, one missing."""
    rows = [f"clip{i},clip{i}.wav,3,3,train" for i in range(24)]
    for i in range(23):
        soundfile.write(tmp_path / f"clip{i}.wav", noise(64_000, seed=i), 16_000)
    (tmp_path / "clip7.wav").write_bytes(b"")
    (tmp_path / "labels.csv").write_text("\n".join(["name,audio_path,V,A,split_set", *rows]))
    return tmp_path / "labels.csv"


@pytest.mark.parametrize("suffix", [".zarr", ".h5"])
def test_two_workers_write_the_same_bytes_as_one(labelled, tmp_path, suffix):
    stores = {workers: tmp_path / f"{workers}{suffix}" for workers in (1, 2)}
    for workers, store in stores.items():
        extract(asked(labelled, store, "shard_seconds=2", f"workers={workers}"))
    one, two = ([s.read_bytes()] if s.is_file() else files(s) for s in stores.values())
    assert one == two
    assert featurestore.open(stores[2]).index.shards > 1


def test_workers_of_a_scheduler_write_the_same_bytes(labelled, tmp_path):
    extract(asked(labelled, tmp_path / "one.zarr", "shard_seconds=2", "workers=1"))
    with LocalCluster(n_workers=1, threads_per_worker=1, scheduler_kwargs=NO_DASHBOARD) as cluster:
        address = cluster.scheduler_address
        extract(asked(labelled, tmp_path / "far.zarr", "shard_seconds=2", f"scheduler={address}"))
    assert files(tmp_path / "one.zarr") == files(tmp_path / "far.zarr")


def test_workers_elsewhere_find_relative_paths_and_a_store_that_has_grown(labelled, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with LocalCluster(n_workers=1, threads_per_worker=1, scheduler_kwargs=NO_DASHBOARD) as cluster:
        assert cluster.scheduler_info  # the worker has been started
        monkeypatch.chdir(tmp_path)
        how = ["shard_seconds=2", f"scheduler={cluster.scheduler_address}"]
        summary = extract(asked("labels.csv", "s.zarr", *how))
        assert summary.failed == {}
        soundfile.write(tmp_path / "new.wav", noise(16_000), 16_000)
        labelled.write_text(labelled.read_text() + "new,new.wav,3,3,train,s9,\n")
        extract(asked("labels.csv", "s.zarr", "grow=true", *how))
    assert "new" in featurestore.open(tmp_path / "s.zarr").names([ENCODER])


def test_no_scheduler_is_said(labelled, tmp_path):
    with pytest.raises(SerError, match="no scheduler at tcp://127"):
        extract(asked(labelled, tmp_path / "s.zarr", "scheduler=tcp://127.0.0.1:1"))
    with pytest.raises(ConfigError, match="found both workers and scheduler"):
        asked(labelled, tmp_path / "s.zarr", "scheduler=tcp://127.0.0.1:1", "workers=2")


def test_a_scheduler_that_goes_away_is_said(many, tmp_path):
    store = tmp_path / "s.zarr"
    with LocalCluster(n_workers=1, threads_per_worker=1, scheduler_kwargs=NO_DASHBOARD) as cluster:
        arguments = ["--dataset=csv", f"--root={many}", f"--encoder={ENCODER}", f"--store={store}", "shard_seconds=2"]
        running = ser_extract.start(*arguments, f"--scheduler={cluster.scheduler_address}")
        records = store / "features" / ENCODER / "shards"
        while not (records.exists() and list(records.glob("*.json"))):
            assert not running.ended(), "it ended before the scheduler did"
            time.sleep(0.01)
    done = running.wait()
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("ser-extract: lost the scheduler tcp://")


def test_an_error_in_a_worker_is_one_line_that_says_where(labelled, tmp_path):
    """A limit on the size of files stands for a full disk."""
    arguments = ["--dataset=csv", f"--root={labelled}", "--features=logmel", f"--store={tmp_path / 's.zarr'}"]
    ended = ser_extract(*arguments, "--workers=2", "shard_seconds=2", FSIZE=16_000)
    *progress, said = ended.stderr.splitlines()
    assert (ended.returncode, ended.stdout) == (1, "")
    assert all(line.startswith("extract: ") for line in progress), ended.stderr
    assert re.match(
        r"ser-extract: logmel, shard \d \(00\d to 00\d\): File too large \(.*\); what is written stays", said
    )


def test_a_worker_that_is_killed_costs_its_shard_alone(many, tmp_path):
    extract(asked(many, tmp_path / "one.zarr", "shard_seconds=4", "workers=1"))
    store = tmp_path / "two.zarr"
    arguments = [f"--{key}={value}" for key, value in {"dataset": "csv", "root": many, "store": store}.items()]
    running = ser_extract.start(*arguments, "--workers=2", "shard_seconds=4", *FEATURES)
    records = store / "features" / ENCODER / "shards"
    workers: list[psutil.Process] = []
    while not (len(workers) == 2 and records.exists() and len(list(records.glob("*.json"))) >= 2):
        assert not running.ended(), "it ended before a worker could be killed"
        time.sleep(0.01)
        children = psutil.Process(running.pid).children(recursive=True)
        workers = [child for child in children if "spawn_main" in " ".join(child.cmdline())]
    os.kill(workers[0].pid, signal.SIGKILL)
    assert running.wait().returncode == 3  # two utterances have no audio
    assert files(tmp_path / "one.zarr") == files(store)


def test_features_of_a_gpu_and_of_the_cores_are_done_side_by_side(many, tmp_path):
    """Parts of each shard here, the others in two processes: the same bytes, whoever has a GPU."""
    extract(asked(many, tmp_path / "one.zarr", "shard_seconds=12", "workers=1"))
    config = asked(many, tmp_path / "two.zarr", "shard_seconds=12")
    source = read_source(config, config.build())
    writer = StoreWriter(config.store_path())
    with writer.lock():
        jobs = plan(config, source, {key: one.spec() for key, one in source.extractors.items()}, writer).jobs
        here, there = ([job.only(keys) for job in jobs] for keys in ([ENCODER], ["pitch", "logmel"]))
        done = list(side_by_side(do_jobs(here, writer, source.extractors), on_cluster(config, there, workers=2)))
        assert len(done) == len(here) + len(there)
        assert {what for _, spent in done for what in spent} == {READING, WRITING, ENCODER, "pitch", "logmel"}
        for key in source.extractors:
            writer.commit(key)
    assert files(tmp_path / "one.zarr") == files(tmp_path / "two.zarr")


def test_an_error_on_one_side_ends_the_other():
    def fails():
        yield 1, Spent()
        raise SerError("the disk is full")

    def goes_on():
        for number in count():
            time.sleep(0.01)
            yield number, Spent()

    with pytest.raises(SerError, match="the disk is full"):
        deque(side_by_side(fails(), goes_on()), 0)
