"""Writing a store: killed and resumed, asked for twice, by two processes, damaged and verified."""

import os
import subprocess
import sys

import numpy as np
import pytest

import featurestore
from featurestore.errors import StoreError
from featurestore.plan import FeaturePlan, FeatureSpec, Plan
from featurestore.verify import verify
from featurestore.writer import StoreWriter


def content(path):
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return {str(file.relative_to(path)): file.read_bytes() for file in files}


def test_the_same_again_changes_nothing(fresh):
    before = content(fresh.path)
    spec = FeatureSpec(
        layers=3, dim=8, hop=0.02, dtype="int8", provenance={"settings": {"trim": False}, "weights": "ab12"}
    )
    writer = StoreWriter(fresh.path)
    with writer.lock():
        writer.plan(fresh.plan)
        writer.plan_feature("int8", FeaturePlan(spec, fresh.frames, np.full(len(fresh.frames), 0.0125)))
        assert writer.pending("int8") == []
        assert writer.commit("int8") == {"utt_7": "3 of 100 samples are NaN or infinite"}
    assert content(fresh.path) == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"provenance": {"settings": {"trim": True}, "weights": "ab12"}}, "trim: False in the store, True asked for"),
        ({"provenance": {"settings": {"trim": False}, "weights": "cd34"}}, "weights: ab12 in the store, cd34 asked"),
        ({"dtype": "float16"}, "dtype: int8 in the store, float16 asked for"),
    ],
)
def test_other_settings_are_refused_by_name(fresh, changes, message):
    settings = {"layers": 3, "dim": 8, "hop": 0.02, "dtype": "int8"}
    provenance = {"provenance": {"settings": {"trim": False}, "weights": "ab12"}}
    spec = FeatureSpec(**{**settings, **provenance, **changes})
    plan = FeaturePlan(spec, fresh.frames, np.full(len(fresh.frames), 0.0125))
    with pytest.raises(StoreError, match=f"has the feature int8 with other settings: {message}"):
        StoreWriter(fresh.path).plan_feature("int8", plan)


def test_other_utterances_or_labels_are_refused(fresh):
    table = fresh.plan.table.drop(columns=["shard", "slot"])
    for changed, message in (
        (table.iloc[1:], "0 utterances are new and 1 are gone, e.g. utt_0"),
        (table.assign(V=1.0), r"the columns \['V'\] have changed"),
        (table.assign(A=1.0), r"the columns \['A'\] are not in both"),
        (table.iloc[::-1], "changed"),
    ):
        with pytest.raises(StoreError, match=message):
            StoreWriter(fresh.path).plan(Plan.make(changed, 5.0, dataset="toy", ranges=fresh.plan.ranges))


def test_a_second_process_is_refused(fresh):
    code = "import sys; from pathlib import Path; from featurestore.writer import StoreWriter\n"
    code += "with StoreWriter(Path(sys.argv[1])).lock(): pass"
    command = [sys.executable, "-c", code, str(fresh.path)]
    with StoreWriter(fresh.path).lock():
        second = subprocess.run(command, capture_output=True, text=True, check=False)
    assert f"is being written by process {os.getpid()} on" in second.stderr
    assert subprocess.run(command, check=False).returncode == 0


def test_frames_of_another_shape_are_refused(fresh):
    (fresh.path / "features/int8/shards/0.json").unlink()
    with pytest.raises(StoreError, match="planned was"), StoreWriter(fresh.path).shard("int8", 0) as shard:
        shard.add("utt_0", np.zeros((3, 1, 8), np.float32))
    assert not list(fresh.path.rglob("*.tmp"))


def test_values_that_cannot_be_stored_are_a_failure_of_that_utterance(fresh):
    (fresh.path / "features/int8/manifest.json").unlink()
    (fresh.path / "features/int8/shards/0.json").unlink()
    writer = StoreWriter(fresh.path)
    with writer.shard("int8", 0) as shard:
        for name in shard.names:
            values = fresh.values[name].copy()
            values[1, 0, 0] = np.nan if name == "utt_1" else 0
            shard.add(name, values)
    assert writer.commit("int8")["utt_1"] == "found values that are not finite in layers [1]"


def test_verify_finds_nothing_in_a_good_store(written):
    told = []
    assert verify(featurestore.open(written.path), lambda done, total: told.append((done, total))) == []
    assert told[-1][0] == told[-1][1] > 0


@pytest.mark.parametrize("array", ["data", "scale", "offset", "mean", "sd"])
@pytest.mark.parametrize("harm", ["truncate", "flip", "delete"])
def test_verify_names_the_shard_and_its_utterances(fresh, array, harm):
    file = fresh.path / f"features/int8/{array}/c/0/1/0"
    before = bytearray(file.read_bytes())
    if harm == "truncate":
        file.write_bytes(before[:-1])
    elif harm == "flip":
        before[len(before) // 3] ^= 1
        file.write_bytes(before)
    else:
        file.unlink()
    store = featurestore.open(fresh.path)
    (damage,) = verify(store)
    assert damage.file == file
    assert damage.names == store.utterances.index[store.utterances["shard"] == 1].tolist()
    assert {"truncate": "bytes, expected", "flip": "checksum", "delete": "missing"}[harm] in damage.problem


def test_verify_sees_a_changed_table(fresh):
    file = fresh.path / "table/V/c/0"
    file.write_bytes(file.read_bytes()[:-8] + np.float64(4.2).tobytes())
    assert [damage.file.name for damage in verify(featurestore.open(fresh.path))] == ["table"]
