"""Damage of every kind is found and named, dropped, and filled in again."""

import errno
import os
import shutil
from contextlib import contextmanager

import h5py
import numpy as np
import pytest

import featurestore
from featurestore.access.writer import StoreWriter
from featurestore.format.opening import open_backend
from featurestore.operations.repair import repair
from featurestore.operations.verify import verify, verify_utterance
from featurestore.shared.errors import StoreError
from tests.featurestore.toy import SHARDS, place_of, tampered

ARRAYS = ["data", "scale", "offset", "mean", "sd"]


def names_in(shard):
    return [name for name, number in SHARDS.items() if number == shard]


def test_a_good_store_has_no_damage(written):
    told = []
    store = featurestore.open(written)
    assert verify(store, lambda done, total: told.append((done, total))) == []
    assert told[-1][0] == told[-1][1] == sum(part.size for part in store.parts.values())
    assert verify_utterance(store, "a1") == []


@pytest.mark.parametrize("array", ARRAYS)
@pytest.mark.parametrize("where", ["first", "middle", "last"])
def test_a_flipped_bit_is_found_with_the_shard_and_its_utterances(copied, array, where):
    store = featurestore.open(copied)
    place = place_of(store, "states", array, 1)
    place.flip({"first": 0, "middle": place.size // 2, "last": place.size - 1}[where])
    (damage,) = verify(featurestore.open(copied))
    assert (damage.feature, damage.shard, damage.names) == ("states", 1, names_in(1))
    assert damage.place == str(place.file)
    assert "checksum" in damage.problem


@pytest.mark.parametrize("array", ARRAYS)
@pytest.mark.parametrize("harm", ["truncate", "empty", "delete"])
def test_a_file_that_is_cut_or_gone_is_found(toy, tmp_path, array, harm):
    path = toy.write(tmp_path / "toy.zarr")
    file = path / f"features/states/{array}/c/0/1/0"
    if harm == "delete":
        file.unlink()
    else:
        file.write_bytes(b"" if harm == "empty" else file.read_bytes()[:-1])
    (damage,) = verify(featurestore.open(path))
    assert (damage.place, damage.names) == (str(file), names_in(1))
    assert {"truncate": "bytes, expected", "empty": "it has 0 bytes, expected", "delete": "missing"}[
        harm
    ] in damage.problem


@pytest.mark.parametrize("compress", [None, "zstd"])
def test_one_utterance_is_checked_alone(toy, tmp_path, suffix, compress):
    if compress and suffix == ".h5":
        pytest.skip("an HDF5 file is not compressed")
    path = toy.write(tmp_path / f"toy{suffix}", compress=compress)
    store = featurestore.open(path)
    place_of(store, "states", "data", 0).flip(3)
    (damage,) = verify_utterance(featurestore.open(path), "a1")
    assert (damage.feature, damage.names) == ("states", ["a1"])
    assert "checksum" in damage.problem
    assert verify_utterance(featurestore.open(path), "a2") == []


@pytest.mark.parametrize("array", ["scale", "mean"])
def test_the_scales_of_one_utterance_are_checked_too(toy, tmp_path, suffix, array):
    path = toy.write(tmp_path / f"toy{suffix}")
    place_of(featurestore.open(path), "states", array, 0).flip(3)
    (damage,) = verify_utterance(featurestore.open(path), "a1")
    assert (damage.feature, damage.shard) == ("states", 0)


@pytest.mark.parametrize("array", ["start", "frames", "time"])
def test_a_changed_place_is_found(copied, array):
    backend = open_backend(copied)
    values = backend.array(f"features/states/{array}").copy()
    values[1] += 16
    with tampered(copied) as change:
        change.array(f"features/states/{array}", values, "utterance")
    (damage,) = verify(featurestore.open(copied))
    assert (damage.feature, damage.shard, damage.problem) == (
        "states",
        None,
        f"{array} of states changed since it was written",
    )


def test_a_plan_that_is_damaged_before_the_commit_is_found(toy, copied):
    writer = StoreWriter(copied)
    with writer.lock():
        writer.drop("states", {1})
    with tampered(copied) as change:
        change.array("features/states/time", open_backend(copied).array("features/states/time") + 1, "utterance")
    with pytest.raises(StoreError, match=r"time of states in .* changed since it was written"):
        toy.write(copied)


def test_features_that_are_gone_are_missed(toy, tmp_path):
    path = toy.write(tmp_path / "toy.h5")
    with h5py.File(path, "r+") as file:
        del file["features"]
    with pytest.raises(StoreError, match="is damaged"):
        verify(featurestore.open(path))
    linked = toy.write(tmp_path / "toy.zarr")
    (linked / "features/states").rename(tmp_path / "elsewhere")
    (linked / "features/states").symlink_to(tmp_path / "unmounted")
    (damage,) = verify(featurestore.open(linked))
    assert (damage.feature, "symbolic link, which is not followed" in damage.problem) == ("states", True)


def test_an_attribute_of_the_root_that_is_gone_is_found(copied):
    backend = open_backend(copied)
    with tampered(copied) as changed:
        changed.group("", {key: value for key, value in backend.attributes().items() if key != "ranges"})
    with pytest.raises(StoreError, match="attributes is damaged: ranges: Field required"):
        featurestore.open(copied)


@pytest.mark.parametrize("change", [{"hop": 0.03}, {"layers": 2}, {"provenance": {}}])
def test_a_feature_that_says_something_else_of_itself_is_found(copied, change):
    backend = open_backend(copied)
    with tampered(copied) as changed:
        changed.group("features/states", {**backend.attributes("features/states"), **change})
    (damage,) = verify(featurestore.open(copied))
    assert (damage.feature, damage.problem) == ("states", "attributes of states changed since it was written")


def test_a_store_that_says_something_else_of_itself_is_found(copied):
    backend = open_backend(copied)
    with tampered(copied) as changed:
        changed.group("", {**backend.attributes(), "ranges": {"V": [1.0, 7.0]}})
    (damage,) = verify(featurestore.open(copied))
    assert (damage.place, damage.problem) == (f"{copied}: attributes", "they are not as they were written")


def test_notes_of_others_at_the_root_are_no_damage(copied):
    backend = open_backend(copied)
    with tampered(copied) as changed:
        changed.group("", {**backend.attributes(), "note": "for the paper"})
    assert verify(featurestore.open(copied)) == []


def test_a_store_from_before_these_checksums_is_good(toy, copied):
    backend = open_backend(copied)
    manifest = backend.manifest("states")
    del manifest["plan"]["attributes"]
    with tampered(copied) as change:
        change.group("", {key: value for key, value in backend.attributes().items() if key != "crc32c"})
        change.manifest("states", manifest)
    assert verify(featurestore.open(copied)) == []


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("time/zarr.json", lambda content: content.replace(b"float64", b"floau64")),
        ("manifest.json", lambda content: content.replace(b"crc32c", b"crc32d", 1)),
        ("manifest.json", lambda content: content.replace(b'"shards"', b'"shardt"')),
        ("manifest.json", lambda content: content[:-20]),
        ("frames/c/0", lambda content: content[:5] + b"\x40" + content[6:]),
        ("frames/c/0", lambda content: b"\x21" + content[1:]),
        ("data/zarr.json", lambda _: b"{}"),
        ("mean/zarr.json", lambda content: content.replace(b"chunk_grid", b"chunk_grie")),
    ],
)
def test_damaged_metadata_is_found_and_no_crash(toy, tmp_path, file, change):
    path = toy.write(tmp_path / "toy.zarr", features=("states", "pitch"))
    damaged = path / "features/states" / file
    damaged.write_bytes(change(damaged.read_bytes()))
    (damage,) = verify(featurestore.open(path))
    assert (damage.feature, damage.shard) == ("states", None)
    assert np.array_equal(featurestore.open(path)["b1"]["pitch"], toy.pitch["b1"])  # which is not concerned
    with pytest.raises(StoreError, match="nothing was dropped"):
        repair(str(path))
    repair(str(path), ["states"])
    assert verify(featurestore.open(toy.write(path))) == []


@pytest.mark.parametrize("where", [5, 0])
def test_frames_outside_of_their_place_are_not_read(toy, tmp_path, where):
    path = toy.write(tmp_path / "toy.zarr")
    file = path / "features/states/frames/c/0"
    content = bytearray(file.read_bytes())
    content[where] ^= 0x40
    file.write_bytes(content)
    with pytest.raises(StoreError, match="the plan of states has frames outside of their place"):
        featurestore.open(path)["a1"]["states"]


@pytest.fixture
def unreadable(monkeypatch):
    """A disk that cannot read one of its files, for a while."""

    @contextmanager
    def broken(file):
        really = os.open

        def fail(path, *arguments, **keywords):
            if str(path) == str(file):
                raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
            return really(path, *arguments, **keywords)

        with monkeypatch.context() as patch:
            patch.setattr(os, "open", fail)
            yield

    return broken


@pytest.mark.parametrize("file", ["features/states/data/c/0/1/0", "features/states/start/c/0"])
def test_what_cannot_be_read_is_not_dropped(toy, tmp_path, unreadable, file):
    path = toy.write(tmp_path / "toy.zarr")
    place_of(featurestore.open(path), "states", "data", 2).flip(0)
    with unreadable(path / file):
        with pytest.raises(StoreError, match=r"Input/output error.*; nothing was dropped"):
            repair(str(path))
        assert "Input/output error" in verify_utterance(featurestore.open(path), "b1")[0].problem
    (damage,) = verify(featurestore.open(path))
    assert damage.shard == 2


def test_every_damaged_shard_is_named_beside_one_that_cannot_be_read(toy, tmp_path, unreadable):
    path = toy.write(tmp_path / "toy.zarr")
    place_of(featurestore.open(path), "states", "data", 2).flip(0)
    with unreadable(path / "features/states/data/c/0/1/0"):
        damages = verify(featurestore.open(path))
    assert [(damage.shard, damage.unreadable) for damage in damages] == [(1, True), (2, False)]
    assert verify_utterance(featurestore.open(path), "a1") == []


@pytest.mark.parametrize("harm", ["truncate", "delete"])
def test_an_utterance_whose_file_is_cut_or_gone_is_damaged(toy, tmp_path, harm):
    path = toy.write(tmp_path / "toy.zarr")
    file = path / "features/states/data/c/0/1/0"
    content = file.read_bytes()
    file.unlink()
    if harm == "truncate":
        file.write_bytes(content[:-9])
    (damage,) = verify_utterance(featurestore.open(path), "b1")
    assert (damage.feature, damage.names) == ("states", ["b1"])


def test_notes_among_the_features_are_let_be(toy, tmp_path):
    path = toy.write(tmp_path / "toy.zarr")
    (path / "features/NOTES.txt").write_text("extracted in May")
    store = featurestore.open(path)
    assert list(store.parts) == ["states"]
    assert verify(store) == []
    assert repair(str(path)) == []
    assert (path / "features/NOTES.txt").read_text() == "extracted in May"


def test_a_feature_can_be_dropped_to_be_made_anew(toy, tmp_path, suffix):
    path = toy.write(tmp_path / f"toy{suffix}", features=("states", "pitch"))
    with pytest.raises(StoreError, match=r"no feature 'stats'; did you mean 'states'"):
        repair(str(path), ["stats"])
    assert repair(str(path), ["states", "states"]) == []
    assert list(featurestore.open(path).parts) == ["pitch"]
    toy.write(path, "int4")
    assert featurestore.open(path).features["states"].dtype == "int4"


def test_a_changed_table_is_found_and_cannot_be_repaired(copied):
    backend = open_backend(copied)
    with tampered(copied) as change:
        change.array("table/V", backend.array("table/V") + 1, "utterance")
    (damage,) = verify(featurestore.open(copied))
    assert damage.place == f"{copied}: table"
    with pytest.raises(StoreError, match="this cannot be repaired: extract into a new store"):
        repair(str(copied))


def test_a_table_that_is_not_text_is_found(toy, tmp_path):
    path = toy.write(tmp_path / "toy.zarr")
    file = path / "table/speaker/bytes/c/0"
    file.write_bytes(b"\xff" + file.read_bytes()[1:])
    (damage,) = verify(featurestore.open(path))
    assert damage.place == f"{path}: table"


def test_verify_reads_only(copied, tree):
    before = tree(copied)
    verify(featurestore.open(copied))
    verify_utterance(featurestore.open(copied), "a1")
    assert tree(copied) == before


@pytest.mark.parametrize("array", ARRAYS)
def test_repair_drops_the_shard_and_writing_again_gives_the_same_bytes(toy, tmp_path, suffix, tree, array):
    path = toy.write(tmp_path / f"toy{suffix}", features=("states", "pitch"))
    before = featurestore.open(path)["b1"]["states"]
    place_of(featurestore.open(path), "states", array, 1).flip(7)
    (dropped,) = repair(str(path))
    assert (dropped.feature, dropped.shard) == ("states", 1)
    half = featurestore.open(path, partial=True)
    assert half.feature("states").failed["b1"] == "not extracted yet"
    assert half.feature("pitch").complete
    assert half["a1"]["states"].shape[0] == 3
    toy.write(path, features=("states", "pitch"))
    assert verify(featurestore.open(path)) == []
    assert np.array_equal(featurestore.open(path)["b1"]["states"], before)
    if suffix == ".zarr":
        assert tree(path) == tree(toy.write(tmp_path / f"whole{suffix}", features=("states", "pitch")))


def test_repair_of_a_shard_that_is_not_committed_yet(toy, tmp_path, suffix):
    path = toy.write(tmp_path / f"toy{suffix}", shards=[0, 1])
    place_of(featurestore.open(path, partial=True), "states", "data", 1).flip(0)
    (dropped,) = repair(str(path))
    assert dropped.shard == 1
    assert StoreWriter(path).pending("states") == [1, 2]


def test_a_feature_whose_plan_is_damaged_is_dropped_when_that_is_asked_for(toy, tmp_path, suffix, tree):
    path = toy.write(tmp_path / f"toy{suffix}", features=("states", "pitch"))
    changed = open_backend(path)
    with tampered(path) as change:
        change.array("features/pitch/start", changed.array("features/pitch/start") + 16, "utterance")
    before = tree(path)
    with pytest.raises(StoreError, match=r"start of pitch changed since .*; nothing was dropped: .* --drop pitch"):
        repair(str(path))
    assert tree(path) == before
    repair(str(path), ["pitch"])
    assert list(featurestore.open(path).parts) == ["states"]
    toy.write(path, features=("pitch",))
    assert np.array_equal(featurestore.open(path)["b1"]["pitch"], toy.pitch["b1"])


def test_repair_of_a_good_store_changes_nothing(copied, tree):
    before = tree(copied)
    assert repair(str(copied)) == []
    assert tree(copied) == before


def test_an_interrupted_change_is_said_and_repaired(toy, tmp_path):
    path = toy.write(tmp_path / "toy.zarr")
    stage = path / ".change"
    stage.mkdir()
    shutil.move(path / "zarr.json", stage / "zarr.json")  # staged, and not in its place yet
    with pytest.raises(StoreError, match="a change was interrupted: run ser-store repair"):
        featurestore.open(path)
    assert repair(str(path)) == []
    assert np.allclose(featurestore.open(path)["a1"]["states"], toy.states["a1"], atol=2)
