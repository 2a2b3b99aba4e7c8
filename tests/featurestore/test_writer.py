"""Writing a store: asked for twice, with other settings, by two processes, on a disk that is full or read-only."""

import os
import subprocess
import sys

import numpy as np
import pytest

import featurestore
from featurestore.access.writer import StoreWriter
from featurestore.format.codec import encode, pool
from featurestore.format.plan import FeaturePlan
from featurestore.operations.verify import verify
from featurestore.shared.errors import StoreError
from tests.featurestore.toy import DIM, FAILED, FRAMES, LAYERS, PROVENANCE
from tests.processes import Command

write_elsewhere = Command("featurestore", "tests.featurestore.toy")


def test_the_same_again_changes_nothing(toy, copied, tree):
    before = tree(copied)
    writer = StoreWriter(copied)
    with writer.lock():
        writer.plan(toy.plan)
        writer.plan_feature("states", toy.feature_plan())
        assert writer.pending("states") == []
        writer.commit("states")
        assert writer.feature("states").failed == FAILED
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
        (table.iloc[1:], "0 utterances are new and 1 are gone, e.g. a1; ser-extract adds the new ones with grow=true"),
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
    code = "import sys; from pathlib import Path; from featurestore.access.writer import StoreWriter\n"
    code += "with StoreWriter(Path(sys.argv[1])).lock(): pass"
    command = [sys.executable, "-c", code, str(copied)]
    with StoreWriter(copied).lock():
        second = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert f"is being written by process {os.getpid()} on" in second.stderr
    assert subprocess.run(command, env=environment, check=False).returncode == 0


def test_the_lock_of_a_killed_process_is_free(tmp_path, environment, suffix):
    path = tmp_path / f"toy{suffix}"
    code = "import os, sys; from pathlib import Path; from featurestore.access.writer import StoreWriter\n"
    code += "with StoreWriter(Path(sys.argv[1])).lock(): print('held', flush=True); sys.stdin.read()"
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code, path], env=environment, stdin=pipe, stdout=pipe) as holder:
        assert holder.stdout.readline() == b"held\n"
        named = f"being written by process {holder.pid} on {os.uname().nodename}; wait for it"
        with pytest.raises(StoreError, match=named), StoreWriter(path).lock():
            pass
        holder.kill()
    with StoreWriter(path).lock():
        assert str(os.getpid()) in (tmp_path / f".toy{suffix}.lock").read_text()


def test_two_writers_of_different_shards_give_the_same_bytes(toy, tmp_path, written, suffix, tree):
    """Writers that share the work, each its shards, never write the same file or the same bytes of one."""
    path = toy.write(tmp_path / f"toy{suffix}", shards=[], features=("states",))
    first, second = StoreWriter(path), StoreWriter(path)
    with first.shard("states", 2) as two, second.shard("states", 0) as zero:
        for shard in (two, zero):
            for name in shard.names:
                shard.add(name, toy.states[name])
    toy.write(path)
    alone = toy.write(tmp_path / f"alone{suffix}")
    assert tree(path) == tree(alone)


def test_frames_of_another_shape_are_refused_and_leave_nothing(toy, tmp_path, suffix):
    path = toy.write(tmp_path / f"toy{suffix}", shards=[])
    with pytest.raises(StoreError, match="as planned"), StoreWriter(path).shard("states", 1) as shard:
        shard.add("b1", toy.states["b1"][:, 1:])
    assert StoreWriter(path).pending("states") == [0, 1, 2]
    assert not [file for file in path.rglob("*") if ".tmp" in file.name]


def test_a_shard_that_lacks_an_utterance_is_refused(toy, tmp_path, suffix):
    path = toy.write(tmp_path / f"toy{suffix}", shards=[])
    shard = StoreWriter(path).shard("states", 0).__enter__()
    for name in ("a1", "a/3", "ä 4"):
        shard.add(name, toy.states[name])
    with pytest.raises(StoreError, match="states: shard 0 got neither frames nor a failure of a2"):
        shard.__exit__(None, None, None)
    assert StoreWriter(path).pending("states") == [0, 1, 2]


@pytest.mark.parametrize("bad", ["", "a/b", "..", ".hidden", "attributes", "zarr.json", "../up", "a\0b"])
def test_a_feature_whose_name_is_no_name_is_refused_and_nothing_is_lost(toy, tmp_path, suffix, bad):
    keep = tmp_path / "other stores" / "precious.txt"
    keep.parent.mkdir()
    keep.touch()
    path = toy.write(keep.with_name(f"toy{suffix}"))
    with pytest.raises(StoreError, match="a feature cannot be named"):
        toy.write(path, features=(bad,))
    assert keep.exists()
    assert list(featurestore.open(path).parts) == ["states"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.rename(index={"a1": ""}), "found the name '', expected text that is not empty"),
        (lambda table: table.rename(index={"a1": 1}), "found the name 1, expected text that is not empty"),
        (lambda table: table.assign(name="x"), "a column cannot be named 'name'"),
        (lambda table: table.assign(slot=1), "a column cannot be named 'slot'"),
        (lambda table: table.rename(columns={"V": 0}), "a column cannot be named 0"),
        (lambda table: table.iloc[:0], "no utterance that can be used"),
    ],
)
def test_a_table_that_no_store_can_hold_is_refused(toy, change, message):
    with pytest.raises(StoreError, match=message):
        toy.plan_of(change(toy.table))


def test_a_folder_with_something_else_is_not_made_a_store(toy, tmp_path):
    (tmp_path / "paper").mkdir()
    (tmp_path / "paper/paper.tex").touch()
    with pytest.raises(StoreError, match=r"not a store, but a folder that holds paper.tex"):
        toy.write(tmp_path / "paper")
    (tmp_path / "empty.zarr").mkdir()
    assert verify(featurestore.open(toy.write(tmp_path / "empty.zarr"))) == []


def test_a_store_behind_a_symbolic_link_is_the_same_store(toy, tmp_path, suffix):
    (tmp_path / "disk").mkdir()
    path = toy.write(tmp_path / "disk" / f"toy{suffix}", shards=[0])
    link = tmp_path / f"link{suffix}"
    link.symlink_to(path)
    toy.write(link, shards=[1])
    assert StoreWriter(path).pending("states") == [2]
    toy.write(path)
    assert verify(featurestore.open(link)) == []


def test_a_shard_that_hdf5_cannot_hold_is_refused(toy, tmp_path):
    path, plan = toy.write(tmp_path / "toy.h5"), toy.feature_plan(dim=2**24)
    with pytest.raises(
        StoreError, match=r"of features/wide/data would have 5.6 GB, an HDF5 file holds at most 4.3: give a"
    ):
        StoreWriter(path).plan_feature("wide", plan)
    assert list(featurestore.open(path).parts) == ["states"]


def test_a_plan_of_other_utterances_is_refused(toy, tmp_path, suffix):
    plan = toy.feature_plan("pitch")
    shorter = FeaturePlan(plan.spec, plan.frames[1:], plan.times[1:])
    with pytest.raises(StoreError, match=r"the plan of pitch has 8 utterances, expected 9"):
        StoreWriter(toy.write(tmp_path / f"toy{suffix}")).plan_feature("pitch", shorter)


@pytest.mark.parametrize("waiting", [True, False])
def test_an_utterance_that_comes_twice_or_is_not_in_the_shard_is_refused(toy, tmp_path, suffix, waiting):
    path = toy.write(tmp_path / f"toy{suffix}", shards=[])
    name = "b2" if waiting else "b1"
    with StoreWriter(path).shard("states", 1) as shard:
        shard.add(name, toy.states[name])
        with pytest.raises(StoreError, match=f"states of {name} was given twice"):
            shard.fail(name, "or not")
        with pytest.raises(StoreError, match="a1 is not in shard 1 of states"):
            shard.add("a1", toy.states["a1"])
        shard.fail("b1" if waiting else "b2", "the encoder ran out of memory")
    assert StoreWriter(path).pending("states") == [0, 2]


def test_statistics_of_another_shape_are_refused(toy, tmp_path, suffix):
    path = toy.write(tmp_path / f"toy{suffix}", shards=[])
    stored, (mean, sd) = encode(toy.states["b1"], "int8"), pool(toy.states["b1"])
    shard = StoreWriter(path).shard("states", 1)
    with pytest.raises(StoreError, match=r"has statistics or scales \(3, 4\), expected \(3, 5\)"), shard:
        shard.put("b1", stored, mean, sd[:, 1:])


@pytest.mark.parametrize(
    ("value", "reason"),
    [(np.float64(1e300), "not finite"), (np.float32(3e38), "too large"), (np.float16(60000), None)],
)
def test_wide_values_are_held_or_a_failure(toy, tmp_path, suffix, value, reason):
    path = toy.write(tmp_path / f"toy{suffix}", shards=[1, 2])
    writer = StoreWriter(path)
    with writer.lock():
        with writer.shard("states", 0) as shard:
            for name in shard.names:
                frames = np.zeros((LAYERS, FRAMES[name], DIM), value.dtype)
                frames[:, 0], frames[:, -1] = value, -value
                shard.add(name, frames)
        writer.commit("states")
    if reason:
        assert reason in writer.feature("states").failed["a1"]
    else:
        assert np.abs(featurestore.open(path)["a1"]["states"]).max() == pytest.approx(60000)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_cannot_be_stored_are_a_failure_of_that_utterance(toy, tmp_path, suffix, bad):
    path = toy.write(tmp_path / f"toy{suffix}", shards=[1, 2])
    writer = StoreWriter(path)
    with writer.lock():
        with writer.shard("states", 0) as shard:
            for name in shard.names:
                values = toy.states[name].copy()
                values[1, 0, 0] = bad if name == "a2" else 0
                shard.add(name, values)
        writer.commit("states")
    assert writer.feature("states").failed["a2"] == "found values that are not finite in layers [1]"
    assert featurestore.open(path)["a/3"]["states"].shape == (LAYERS, FRAMES["a/3"], DIM)


@pytest.mark.parametrize("limit", [300, 600, 900, 1200])
def test_a_file_system_that_refuses_to_grow_a_file_loses_nothing(tmp_path, suffix, toy, tree, limit):
    path, whole = tmp_path / f"toy{suffix}", toy.write(tmp_path / f"whole{suffix}", features=("states", "pitch"))
    full = write_elsewhere(path, FSIZE=limit)
    assert full.returncode != 0
    assert "File too large" in full.stderr or "StoreError" in full.stderr or "OSError" in full.stderr
    assert write_elsewhere(path).returncode == 0
    assert tree(path) == tree(whole)


def test_a_full_disk_loses_nothing(mounted, tmp_path, suffix, toy, tree):
    filler = mounted / "filler"
    filler.write_bytes(bytes((4 << 20) - 64_000))
    path = mounted / f"toy{suffix}"
    full = write_elsewhere(path)
    assert "No space left on device" in full.stderr
    filler.unlink()
    assert write_elsewhere(path).returncode == 0
    assert tree(path) == tree(toy.write(tmp_path / f"whole{suffix}", features=("states", "pitch")))


def test_a_read_only_file_system_can_be_read(mounted, toy, suffix):
    path = toy.write(mounted / f"toy{suffix}", features=("states", "pitch"))
    subprocess.run(["mount", "-o", "remount,ro", mounted], check=True)
    store = featurestore.open(path)
    assert np.allclose(store["a1"]["states"], toy.states["a1"], atol=2)
    refused = write_elsewhere(path)
    assert "Read-only file system" in refused.stderr
    subprocess.run(["mount", "-o", "remount,rw", mounted], check=True)
