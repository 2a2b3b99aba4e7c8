"""Writing a store: asked for twice, with other settings, by two processes, on a disk that is full or read-only."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

import featurestore
from featurestore.errors import StoreError
from featurestore.writer import StoreWriter
from tests.featurestore.toy import DIM, FAILED, FRAMES, LAYERS, PROVENANCE

WRITE = """
import resource, sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from toy import Toy
if len(sys.argv) > 3:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), int(sys.argv[3])))
Toy().write(Path(sys.argv[1]), features=("states", "pitch"))
"""
FOLDER = os.path.dirname(__file__)


def write_elsewhere(path, environment, *limits):
    command = [sys.executable, "-c", WRITE, path, FOLDER, *map(str, limits)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)


def test_the_same_again_changes_nothing(toy, copied, tree):
    before = tree(copied)
    writer = StoreWriter(copied)
    with writer.lock():
        writer.plan(toy.plan)
        writer.plan_feature("states", toy.feature_plan())
        assert writer.pending("states") == []
        writer.commit("states")
        assert writer.part("states").failed == FAILED
    assert tree(copied) == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"provenance": {"settings": {"trim": True}, "weights": "ab12"}}, "trim: False in the store, True asked for"),
        ({"provenance": {"settings": {"trim": False}, "weights": "cd34"}}, "weights: ab12 in the store, cd34 asked"),
        ({"dtype": "float16"}, "dtype: int8 in the store, float16 asked for"),
        ({"compress": "zstd"}, "compress: None in the store, zstd asked for"),
    ],
    ids=str,
)
def test_other_settings_are_refused_by_name(toy, copied, changes, message):
    with pytest.raises(StoreError, match=f"has the feature states with other settings: {message}"):
        StoreWriter(copied).plan_feature("states", toy.feature_plan(**changes))


def test_other_versions_of_libraries_are_the_same_feature(toy, copied):
    changed = toy.feature_plan(provenance={**PROVENANCE, "versions": {"torch": "2"}})
    StoreWriter(copied).plan_feature("states", changed)


def test_other_utterances_or_labels_are_refused(toy, copied):
    table = toy.table
    for changed, message in (
        (table.iloc[1:], "0 utterances are new and 1 are gone, e.g. a1; add the new ones with grow=true"),
        (table.assign(V=1.0), r"the columns \['V'\] have changed"),
        (table.assign(A=1.0), r"no columns \['A'\]; add them with ser-store add-labels"),
    ):
        with pytest.raises(StoreError, match=message):
            StoreWriter(copied).plan(toy.plan_of(changed))


def test_the_order_of_a_label_file_does_not_matter(toy, copied):
    StoreWriter(copied).plan(toy.plan_of(toy.table.iloc[::-1]))


@pytest.mark.parametrize("changes", [{"ranges": {"V": (0.0, 9.0)}}, {"dataset": "other"}], ids=str)
def test_another_plan_with_the_same_table_is_refused(toy, copied, changes):
    with pytest.raises(StoreError, match=next(iter(changes))):
        StoreWriter(copied).plan(toy.plan_of(toy.table, **changes))


def test_a_second_process_is_refused(copied, environment):
    code = "import sys; from pathlib import Path; from featurestore.writer import StoreWriter\n"
    code += "with StoreWriter(Path(sys.argv[1])).lock(): pass"
    command = [sys.executable, "-c", code, str(copied)]
    with StoreWriter(copied).lock():
        second = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert f"is being written by process {os.getpid()} on" in second.stderr
    assert subprocess.run(command, env=environment, check=False).returncode == 0


def test_the_lock_of_a_killed_process_is_free(tmp_path, environment, form):
    path = tmp_path / f"toy{form}"
    code = "import os, sys; from pathlib import Path; from featurestore.writer import StoreWriter\n"
    code += "with StoreWriter(Path(sys.argv[1])).lock(): print('held', flush=True); sys.stdin.read()"
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code, path], env=environment, stdin=pipe, stdout=pipe) as holder:
        assert holder.stdout.readline() == b"held\n"
        named = f"being written by process {holder.pid} on {os.uname().nodename}; wait for it"
        with pytest.raises(StoreError, match=named), StoreWriter(path).lock():
            pass
        holder.kill()
    with StoreWriter(path).lock():
        assert str(os.getpid()) in (tmp_path / f".toy{form}.lock").read_text()


def test_two_writers_of_different_shards_give_the_same_bytes(toy, tmp_path, written, form, tree):
    """Writers that share the work, each its shards, never write the same file or the same bytes of one."""
    path = toy.write(tmp_path / f"toy{form}", shards=[], features=("states",))
    first, second = StoreWriter(path), StoreWriter(path)
    with first.shard("states", 2) as two, second.shard("states", 0) as zero:
        for shard in (two, zero):
            for name in shard.names:
                shard.add(name, toy.states[name])
    toy.write(path)
    alone = toy.write(tmp_path / f"alone{form}")
    assert tree(path) == tree(alone)


def test_frames_of_another_shape_are_refused_and_leave_nothing(toy, tmp_path, form):
    path = toy.write(tmp_path / f"toy{form}", shards=[])
    with pytest.raises(StoreError, match="planned was"), StoreWriter(path).shard("states", 1) as shard:
        shard.add("b1", toy.states["b1"][:, 1:])
    assert StoreWriter(path).pending("states") == [0, 1, 2]
    assert not [file for file in path.rglob("*") if ".tmp" in file.name]


def test_a_shard_that_lacks_an_utterance_is_refused(toy, tmp_path, form):
    path = toy.write(tmp_path / f"toy{form}", shards=[])
    shard = StoreWriter(path).shard("states", 0).__enter__()
    for name in ("a1", "a/3", "ä 4"):
        shard.add(name, toy.states[name])
    with pytest.raises(StoreError, match="states: shard 0 got nothing for a2"):
        shard.__exit__(None, None, None)
    assert StoreWriter(path).pending("states") == [0, 1, 2]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_cannot_be_stored_are_a_failure_of_that_utterance(toy, tmp_path, form, bad):
    path = toy.write(tmp_path / f"toy{form}", shards=[1, 2])
    writer = StoreWriter(path)
    with writer.shard("states", 0) as shard:
        for name in shard.names:
            values = toy.states[name].copy()
            values[1, 0, 0] = bad if name == "a2" else 0
            shard.add(name, values)
    writer.commit("states")
    assert writer.part("states").failed["a2"] == "found values that are not finite in layers [1]"
    assert featurestore.open(path)["a/3"]["states"].shape == (LAYERS, FRAMES["a/3"], DIM)


@pytest.mark.parametrize("limit", [300, 600, 900, 1200])
def test_a_file_system_that_refuses_to_grow_a_file_loses_nothing(tmp_path, environment, form, toy, tree, limit):
    path, whole = tmp_path / f"toy{form}", toy.write(tmp_path / f"whole{form}", features=("states", "pitch"))
    full = write_elsewhere(path, environment, limit)
    assert full.returncode != 0
    assert "File too large" in full.stderr or "StoreError" in full.stderr or "OSError" in full.stderr
    assert write_elsewhere(path, environment).returncode == 0
    assert tree(path) == tree(whole)


@pytest.fixture
def mounted(tmp_path):
    """A file system of 4 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no right to mount a file system")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk_loses_nothing(mounted, tmp_path, environment, form, toy, tree):
    filler = mounted / "filler"
    filler.write_bytes(bytes((4 << 20) - 64_000))
    path = mounted / f"toy{form}"
    full = write_elsewhere(path, environment)
    assert "No space left on device" in full.stderr
    filler.unlink()
    assert write_elsewhere(path, environment).returncode == 0
    assert tree(path) == tree(toy.write(tmp_path / f"whole{form}", features=("states", "pitch")))


def test_a_read_only_file_system_can_be_read(mounted, toy, form, environment):
    path = toy.write(mounted / f"toy{form}", features=("states", "pitch"))
    subprocess.run(["mount", "-o", "remount,ro", mounted], check=True)
    store = featurestore.open(path)
    assert np.allclose(store["a1"]["states"], toy.states["a1"], atol=2)
    refused = write_elsewhere(path, environment)
    assert "Read-only file system" in refused.stderr
    subprocess.run(["mount", "-o", "remount,rw", mounted], check=True)
