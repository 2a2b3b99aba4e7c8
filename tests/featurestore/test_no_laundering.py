"""What copies a store compares checksums: damage is left out by name, and gets no new checksum."""

import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file

import featurestore
from featurestore.format.opening import open_backend
from featurestore.operations.copying import copy_stores
from featurestore.operations.export import export_frames
from featurestore.operations.verify import verify
from featurestore.shared.errors import StoreError
from tests.featurestore.toy import SHARDS, Toy, place_of, tampered


@pytest.fixture
def source(toy, tmp_path, suffix):
    return toy.write(tmp_path / f"toy{suffix}", features=("states", "pitch"))


@pytest.mark.parametrize("target", [".zarr", ".h5"])
def test_an_utterance_whose_frames_are_damaged_is_left_out_by_name(toy, source, tmp_path, target):
    place_of(featurestore.open(source), "states", "data", 1).flip(3)
    copy = featurestore.open(copy_stores([featurestore.open(source)], tmp_path / f"copy{target}"))
    assert copy.feature("states").failed["b1"].startswith(f"damaged in {source}: its checksum is")
    assert copy.feature("pitch").failed == {}
    assert verify(copy) == []
    for name in set(toy.readable) - {"b1"}:
        assert np.array_equal(copy[name]["states"], featurestore.open(source)[name]["states"])


@pytest.mark.parametrize("array", ["scale", "offset", "mean", "sd"])
def test_scales_and_statistics_have_one_checksum_for_a_shard(source, tmp_path, array):
    place_of(featurestore.open(source), "states", array, 2).flip(3)
    copy = featurestore.open(copy_stores([featurestore.open(source)], tmp_path / "copy.zarr"))
    left_out = {name for name, reason in copy.feature("states").failed.items() if reason.startswith("damaged in")}
    assert left_out == {name for name, shard in SHARDS.items() if shard == 2}


def test_a_shard_that_is_gone_is_left_out_by_name(toy, tmp_path):
    path = toy.write(tmp_path / "toy.zarr")
    (path / "features/states/data/c/0/0/0").unlink()
    copy = featurestore.open(copy_stores([featurestore.open(path)], tmp_path / "copy.zarr"))
    assert "0 is missing" in copy.feature("states").failed["a1"]


@pytest.mark.parametrize("harm", ["table/V", "features/pitch/start", "root"])
@pytest.mark.parametrize("other", [False, True])
def test_a_damaged_table_or_plan_is_not_copied(toy, source, tmp_path, harm, other):
    backend = open_backend(source)
    with tampered(source) as change:
        if harm == "root":
            change.group("", {**backend.attributes(), "left_out": {"z9": "never seen"}})
        else:
            values = backend.array(harm).copy()
            values[-1:] += 16
            change.array(harm, values, "utterance")
    sources = [featurestore.open(source)]
    if other:
        renamed = Toy()
        renamed.table = renamed.table.rename(index=lambda name: f"other {name}")
        renamed.plan = renamed.plan_of(renamed.table)
        renamed.states, renamed.pitch, renamed.failed = (
            {f"other {name}": value for name, value in values.items()}
            for values in (renamed.states, renamed.pitch, renamed.failed)
        )
        sources.insert(0, featurestore.open(renamed.write(tmp_path / "other.zarr", features=("states", "pitch"))))
    with pytest.raises(
        StoreError,
        match=r"is damaged, its table or attributes have changed|start of pitch .* changed since it was written",
    ):
        copy_stores(sources, tmp_path / "copy.zarr")
    assert not (tmp_path / "copy.zarr").exists()


@pytest.mark.parametrize("command", [("convert",), ("merge",), ("export",)])
def test_the_commands_say_what_they_left_out(ser_store, source, tmp_path, command):
    place_of(featurestore.open(source), "states", "data", 1).flip(3)
    copy = tmp_path / ("exported" if command == ("export",) else "copy.zarr")
    arguments = [copy, source] if command == ("merge",) else [source, copy]
    result = ser_store(*command, *arguments)
    assert result.returncode == 3
    (line,) = [line for line in result.stdout.splitlines() if "of b1" in line]
    assert line.startswith("left out: states of b1: ")
    assert "its checksum is" in line


def test_damaged_frames_are_not_exported(source, tmp_path):
    place_of(featurestore.open(source), "states", "data", 1).flip(3)
    store = featurestore.open(source)
    for kind in ("npy", "safetensors"):
        left_out = export_frames(store, tmp_path / kind, ["states"], kind)
        assert [line.split(":")[0] for line in left_out] == ["states of b1", "states of b2"]
    assert "b1" not in load_file(tmp_path / "safetensors/states/1.safetensors")
    assert not (tmp_path / "npy/states/b1.npy").exists()


def test_names_that_files_cannot_have(tmp_path, suffix):
    toy = Toy()
    names = {"a1": "語" * 100, "a2": "__metadata__", "c1": "..", "c2": "\x1b[31m"}
    toy.table = toy.table.rename(index=names)
    toy.plan = toy.plan_of(toy.table)
    toy.states = {names.get(name, name): frames for name, frames in toy.states.items()}
    store = featurestore.open(toy.write(tmp_path / f"toy{suffix}"))
    assert len(export_frames(store, tmp_path / "npy")) == 1
    written = sorted((tmp_path / "npy/states").iterdir())
    assert len(written) == 8
    (long,) = [file for file in written if file.name.startswith("%E8")]
    assert np.array_equal(np.load(long), store["語" * 100]["states"])
    assert np.array_equal(np.load(tmp_path / "npy/states/...npy"), store[".."]["states"])
    left_out = export_frames(store, tmp_path / "tensors", kind="safetensors")
    assert "states of __metadata__: safetensors keeps that name for itself: export it with --kind npy" in left_out
    tensors = load_file(tmp_path / "tensors/states/0.safetensors")
    assert np.array_equal(tensors["語" * 100], store["語" * 100]["states"])


def test_export_on_a_full_disk_leaves_no_part_of_a_file(ser_store, source, mounted):
    (mounted / "filler").write_bytes(bytes((4 << 20) - 5000))
    for kind in ("npy", "safetensors"):
        result = ser_store("export", source, mounted / kind, "--kind", kind)
        assert (result.returncode, len(result.stderr.splitlines())) == (1, 1)
        assert "No space left on device" in result.stderr
        for file in (mounted / kind).rglob("*.*"):
            assert len(np.load(file) if kind == "npy" else load_file(file))
        shutil.rmtree(mounted / kind)


def test_a_copy_made_again_takes_what_has_been_mended(toy, source, tmp_path):
    place_of(featurestore.open(source), "states", "data", 1).flip(3)
    copy = copy_stores([featurestore.open(source)], tmp_path / "copy.zarr")
    assert "b1" in featurestore.open(copy).feature("states").failed
    place_of(featurestore.open(source), "states", "data", 1).flip(3)
    copy_stores([featurestore.open(source)], copy)
    assert "b1" not in featurestore.open(copy).feature("states").failed
    assert verify(featurestore.open(copy)) == []


def test_a_table_that_cannot_be_written_leaves_the_one_that_is_there(ser_store, source, mounted):
    (mounted / "t.csv").write_text("mine")
    (mounted / "filler").write_bytes(bytes(shutil.disk_usage(mounted).free))
    result = ser_store("export", source, "--table", mounted / "t.csv")
    assert (result.returncode, len(result.stderr.splitlines())) == (1, 1)
    assert "t.csv" in result.stderr
    assert (mounted / "t.csv").read_text() == "mine"
