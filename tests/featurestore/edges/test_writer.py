"""Killed before any operation on a file, what a killed writer left, and damage outside the shards."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import featurestore
from featurestore.errors import StoreError
from featurestore.verify import verify
from featurestore.writer import StoreWriter

SCRIPT = Path(__file__).with_name("killed_writer.py")


@pytest.mark.parametrize("seed", range(3))
def test_killed_before_any_file_operation_it_resumes_to_the_same_bytes(written, tmp_path, environment, tree, seed):
    path = tmp_path / "toy.zarr"
    command = [sys.executable, SCRIPT, path, str(seed)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=30)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) >= 2
    assert tree(tmp_path) == {f"toy.zarr/{name}": content for name, content in tree(written).items()}


def test_what_a_killed_writer_left_is_cleared(toy, tmp_path, tree, written):
    path = toy.write(tmp_path / "toy.zarr", shards=[0])
    for place in ("data/c/0/1/.0.77.tmp", "shards/.1.json.77.tmp", ".manifest.json.77.tmp"):
        file = path / "features/states" / place
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"half")
    toy.write(path)
    assert tree(path) == tree(written)


def test_other_versions_of_libraries_are_the_same_feature(toy, tmp_path):
    writer = StoreWriter(tmp_path / "toy.zarr")
    writer.plan(toy.plan)
    writer.plan_feature("states", toy.feature_plan(provenance={"versions": {"torch": "1"}}))
    writer.plan_feature("states", toy.feature_plan(provenance={"versions": {"torch": "2"}}))
    assert writer.pending("states") == [0, 1, 2]


@pytest.mark.parametrize("changes", [{"ranges": {"V": (0.0, 9.0)}}, {"dataset": "other"}], ids=str)
def test_another_plan_with_the_same_table_is_refused(toy, copied, changes):
    with pytest.raises(StoreError, match=next(iter(changes))):
        StoreWriter(copied).plan(replace(toy.plan, **changes))


def test_a_shard_with_an_error_leaves_nothing(toy, tmp_path, tree):
    path = toy.write(tmp_path / "toy.zarr", shards=[])
    before = tree(path)
    with pytest.raises(StoreError, match="planned was"), StoreWriter(path).shard("states", 1) as shard:
        shard.add("b1", toy.states["b1"][:, 1:])
    assert tree(path) == before


def test_the_lock_of_a_killed_process_is_free(tmp_path, environment):
    path = tmp_path / "toy.zarr"
    code = "import os, sys; from pathlib import Path; from featurestore.writer import StoreWriter\n"
    code += "with StoreWriter(Path(sys.argv[1])).lock(): print('held', flush=True); sys.stdin.read()"
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code, path], env=environment, stdin=pipe, stdout=pipe) as holder:
        assert holder.stdout.readline() == b"held\n"
        holder_named = f"being written by process {holder.pid} on {os.uname().nodename}; wait for it"
        with pytest.raises(StoreError, match=holder_named), StoreWriter(path).lock():
            pass
        holder.kill()
    with StoreWriter(path).lock():
        assert str(os.getpid()) in (tmp_path / ".toy.zarr.lock").read_text()


@pytest.mark.parametrize("array", ["start", "frames", "time"])
def test_verify_sees_a_changed_place(copied, array):
    file = copied / f"features/states/{array}/c/0"
    values = np.fromfile(file, "<i8")
    values[1] += 16
    values.tofile(file)
    assert [damage.file for damage in verify(featurestore.open(copied))] == [file]


def test_verify_sees_a_table_that_is_not_text(copied):
    file = copied / "table/speaker/bytes/c/0"
    file.write_bytes(b"\xff" + file.read_bytes()[1:])
    assert copied / "table" in [damage.file for damage in verify(featurestore.open(copied))]


def test_verify_reads_only(copied, tree, tmp_path):
    before = tree(copied)
    shutil.rmtree(copied / "features/states/mean/c")
    assert len(verify(featurestore.open(copied))) == 3
    assert tree(copied) == {name: content for name, content in before.items() if "states/mean/c/" not in name}
