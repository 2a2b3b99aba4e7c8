"""An HDF5 file is always whole: what a killed process leaves beside it belongs to that file, or is refused by name."""

import pickle
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

import featurestore
from featurestore.access.writer import StoreWriter
from featurestore.format.draft import DraftBackend
from featurestore.format.packing import _Image
from featurestore.operations.repair import repair
from featurestore.operations.verify import verify, verify_utterance
from featurestore.shared.errors import StoreError
from tests.featurestore.toy import FRAMES, Toy, tampered
from tests.processes import Command

FEATURES = ("states", "pitch")


class Killed(BaseException):
    """Stands for the end of the process: the code that it ends cleans nothing up."""


def kill_in_the_middle(toy, path, features=FEATURES):
    """Write a store until the first two shards of its last feature are there."""
    writer = StoreWriter(path)
    try:
        with writer.lock():
            writer.plan(toy.plan)
            for feature in features:
                writer.plan_feature(feature, toy.feature_plan(feature))
                toy.fill(writer, feature, (0, 1) if feature == features[-1] else (0, 1, 2))
            raise Killed
    except Killed:
        return


@pytest.fixture
def path(tmp_path):
    return tmp_path / "toy.h5"


def names_beside(path):
    return sorted(file.name for file in path.parent.iterdir())


def test_nothing_is_believed_of_a_file_that_is_gone(toy, path):
    """The killed extraction goes on without a file, and what comes out is whole."""
    kill_in_the_middle(toy, path)
    assert names_beside(path) == [".toy.h5.draft", ".toy.h5.lock"]
    toy.write(path, features=FEATURES)
    assert names_beside(path) == [".toy.h5.lock", "toy.h5"]
    store = featurestore.open(path)
    assert verify(store) == []
    for name in toy.readable:
        assert np.allclose(store[name]["states"], toy.states[name], atol=2)


def test_other_settings_than_those_of_the_killed_extraction_are_refused(toy, path):
    kill_in_the_middle(toy, path)
    with pytest.raises(
        StoreError, match="has the feature states with other settings: dtype: int8 in the store, float32"
    ):
        toy.write(path, "float32")


@pytest.mark.parametrize("harm", ["removed", "renamed", "another", "changed"])
def test_a_file_that_changes_under_an_unfinished_change_is_refused_by_name(toy, path, harm):
    toy.write(path)
    backup = shutil.copy(path, path.with_name("backup.h5"))
    kill_in_the_middle(toy, path)
    if harm == "removed":
        path.unlink()
    elif harm == "renamed":
        path.rename(path.with_name("renamed.h5"))
    elif harm == "another":
        Toy().write(path.with_name("other.h5"), features=("pitch",)).replace(path)
    else:
        with h5py.File(path, "r+") as file:
            file["table/V"][0] = 3.0
            del file["attributes"]
            file.create_dataset("attributes", data=np.array(b'{"format": 2}'))
    gone = harm in ("removed", "renamed")
    message = (
        "is gone, but has an unfinished change" if gone else "is not the file that an unfinished change was changing"
    )
    with pytest.raises(StoreError, match=f"{message}.*delete .*toy.h5.draft"):
        toy.write(path, features=FEATURES)
    if harm == "renamed":  # it is a store like any other, of which no change is unfinished
        assert verify(featurestore.open(path.with_name("renamed.h5"))) == []
        toy.write(path.with_name("renamed.h5"), features=FEATURES)
        assert verify(featurestore.open(path.with_name("renamed.h5"))) == []
    shutil.copy(backup, path)  # the same content is the same file, wherever it comes from
    toy.write(path, features=FEATURES)
    assert verify(featurestore.open(path)) == []
    assert list(featurestore.open(path).features) == ["pitch", "states"]


def test_a_file_that_appears_beside_a_first_extraction_is_not_overwritten(toy, path):
    kill_in_the_middle(toy, path)
    other = Toy().write(path.with_name("other.h5"), "float32").replace(path)
    before = other.read_bytes()
    with pytest.raises(StoreError, match="appeared while an unfinished change was making it: move it away to finish"):
        toy.write(path, features=FEATURES)
    assert path.read_bytes() == before
    with pytest.raises(StoreError, match="unfinished change"):
        repair(str(path))
    assert verify(featurestore.open(path)) == []
    assert verify(featurestore.open(path, partial=True)) == []  # of the file: the draft is not of it
    shutil.rmtree(path.with_name(".toy.h5.draft"))
    assert repair(str(path)) == []


def test_readers_see_the_file_as_it_was_until_another_takes_its_place(toy, path):
    toy.write(path)
    before = featurestore.open(path)
    kill_in_the_middle(toy, path, ("pitch",))
    assert list(featurestore.open(path).parts) == ["states"]
    partial = featurestore.open(path, partial=True)
    assert list(partial.parts) == ["pitch", "states"]
    assert np.array_equal(partial["a1"]["pitch"], toy.pitch["a1"])
    assert partial.feature("pitch").failed == dict.fromkeys(["c1", "c2", "c3"], "not extracted yet")
    assert verify(partial) == []
    frames = before["a1"]["states"]
    toy.write(path, features=("pitch",))
    assert np.array_equal(before["c1"]["states"], featurestore.open(path)["c1"]["states"])  # not opened until now
    assert np.array_equal(before["a1"]["states"], frames)
    assert before.utterances.equals(featurestore.open(path).utterances)


def test_an_unfinished_first_extraction_can_be_looked_into(toy, path):
    kill_in_the_middle(toy, path)
    store = featurestore.open(path)
    assert list(store.features) == ["states"]
    with pytest.raises(StoreError, match=r"pitch in .*toy.h5 is unfinished \(2 of 3 shards\)"):
        store.feature("pitch")


def test_killed_between_the_new_file_and_the_end_of_the_draft(toy, path, monkeypatch):
    kill_in_the_middle(toy, path)
    with monkeypatch.context() as patch:
        patch.setattr(DraftBackend, "discard", lambda _: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            toy.write(path, features=FEATURES)
    assert names_beside(path) == [".toy.h5.draft", ".toy.h5.lock", "toy.h5"]
    before = path.read_bytes()
    assert verify(featurestore.open(path)) == []
    toy.write(path, features=FEATURES)
    assert names_beside(path) == [".toy.h5.lock", "toy.h5"]
    assert path.read_bytes() == before


def test_what_a_killed_extraction_left_is_kept_by_a_small_change(toy, path):
    toy.write(path)
    kill_in_the_middle(toy, path, ("pitch",))
    writer = StoreWriter(path)
    with writer.change_at_once():
        writer.replace_table(writer.table.assign(A=1.0))
    half = featurestore.open(path, partial=True)
    assert half.utterances["A"].tolist() == [1.0] * len(FRAMES)
    assert set(half.feature("pitch").records) == {0, 1}
    assert verify(half) == []
    before = path.read_bytes()
    twice = writer.table.assign(**{"": 2.0})
    with pytest.raises(StoreError, match="cannot be named"), writer.change_at_once():
        writer.replace_table(twice)
    assert path.read_bytes() == before
    assert names_beside(path) == [".toy.h5.lock", "toy.h5"]


def test_what_is_no_part_of_a_store_is_not_lost(toy, path):
    toy.write(path)
    with h5py.File(path, "r+") as file:
        file.create_group("my notes")
    before = path.read_bytes()
    with pytest.raises(StoreError, match="also holds my notes, which is no part of a store and would be lost"):
        toy.write(path, features=("pitch",))
    assert path.read_bytes() == before


def test_a_damaged_shard_is_not_copied_into_a_new_file(toy, path):
    toy.write(path)
    place = featurestore.open(path).backend.shard_file("states", "data", 1)[2]
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(
        StoreError, match=r"shard 1 of states is damaged, .*; nothing was changed: run ser-store repair"
    ):
        toy.write(path, features=("pitch",))
    assert path.read_bytes() == bytes(content)
    (dropped,) = repair(str(path))
    assert (dropped.feature, dropped.shard) == ("states", 1)
    toy.write(path, features=FEATURES)
    assert verify(featurestore.open(path)) == []
    assert names_beside(path) == [".toy.h5.lock", "toy.h5"]


def test_the_bytes_of_a_file_depend_on_its_content_alone(toy, tmp_path):
    one = toy.write(tmp_path / "one.h5", features=FEATURES)
    other = toy.write(tmp_path / "other.h5", features=("pitch",), shards=(2,))
    toy.write(other, features=("states",), shards=(1,))
    toy.write(other, features=("states", "pitch"))
    assert one.read_bytes() == other.read_bytes()


def test_a_file_that_hdf5_writes_in_memory_is_a_file(tmp_path):
    rng, image = np.random.default_rng(0), _Image()
    values = [rng.integers(0, 255, size, np.uint8) for size in (0, 1, 70_000, 300_000)]
    with h5py.File(image, "w", libver="latest") as file:
        for number, value in enumerate(values):
            file.create_dataset(f"{number}", data=value)
        del file["2"]
        file.create_dataset("again", data=values[2])
    with open(tmp_path / "copy.h5", "wb", buffering=0) as target:
        image.write_to(target)
    for opened in (image, tmp_path / "copy.h5"):
        with h5py.File(opened, "r") as file:
            for number in ("0", "1", "3"):
                assert np.array_equal(file[number][()], values[int(number)])
            assert np.array_equal(file["again"][()], values[2])


def test_a_store_that_travels_to_another_process_is_that_file_or_none(toy, path):
    toy.write(path, features=FEATURES)
    store = featurestore.open(path)
    assert np.array_equal(store["a1"]["pitch"], toy.pitch["a1"])
    travelled = pickle.dumps(store)
    assert np.array_equal(pickle.loads(travelled)["c1"]["pitch"], toy.pitch["c1"])
    writer = StoreWriter(path)
    with writer.change_at_once():
        writer.replace_table(writer.table.assign(**{f"note {i}": "q" * 900 for i in range(30)}))
    with pytest.raises(StoreError, match="has been replaced since it was opened: open it again"):
        pickle.loads(travelled)["c1"]["pitch"]
    assert np.array_equal(store["c1"]["pitch"], toy.pitch["c1"])
    path.unlink()
    assert np.array_equal(store["b1"]["pitch"], toy.pitch["b1"])
    assert len(store.utterances) == len(FRAMES)


@pytest.mark.parametrize("there", [False, True])
def test_a_file_that_appears_while_another_is_made_is_not_overwritten(toy, path, there):
    if there:
        toy.write(path)
    other = Toy().write(path.with_name("other.h5"), "float32", features=FEATURES)

    def replaced_meanwhile():
        writer = StoreWriter(path)
        with writer.lock():
            writer.plan(toy.plan)
            writer.plan_feature("pitch", toy.feature_plan("pitch"))
            toy.fill(writer, "pitch")
            Path(shutil.copy(other, path.with_name("copy"))).replace(path)

    with pytest.raises(StoreError, match="unfinished change"):
        replaced_meanwhile()
    assert path.read_bytes() == other.read_bytes()
    assert names_beside(path) == [".other.h5.lock", ".toy.h5.draft", ".toy.h5.lock", "other.h5", "toy.h5"]


def test_a_reader_of_a_draft_that_is_finished_meanwhile_is_told(toy, path):
    toy.write(path)
    kill_in_the_middle(toy, path, ("pitch",))
    reader = featurestore.open(path, partial=True)
    assert np.array_equal(reader["a1"]["pitch"], toy.pitch["a1"])
    toy.write(path, features=("pitch",))
    for read in (lambda: reader["b1"]["pitch"], lambda: reader.utterances):
        with pytest.raises(OSError, match="finished or changed since it was opened: open it again"):
            read()
    assert {damage.unreadable for damage in verify_utterance(reader, "b1")} == {True}


def test_a_small_change_that_was_killed_is_in_nobodys_way(toy, path):
    toy.write(path)
    (path.parent / ".toy.h5.change").mkdir()
    (path.parent / ".toy.h5.change/.draft.json").write_text(
        '{"base": "of another file", "removed": [], "published": null}'
    )
    toy.write(path, features=("pitch",))
    assert names_beside(path) == [".toy.h5.lock", "toy.h5"]


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664])
def test_a_file_keeps_its_rights(toy, path, mode):
    toy.write(path)
    path.chmod(mode)
    kill_in_the_middle(toy, path, ("pitch",))
    if mode == 0o600:
        assert path.with_name(".toy.h5.draft").stat().st_mode & 0o777 == 0o700
    toy.write(path, features=("pitch",))
    assert path.stat().st_mode & 0o777 == mode


@pytest.mark.parametrize(
    "what", ["note", "features/states/probe", "table/mine", "table/link", "features/states/data@unit"]
)
def test_whatever_others_put_into_a_file_is_not_lost(toy, path, what):
    toy.write(path)
    place, _, key = what.partition("@")
    with h5py.File(path, "r+") as file:
        if what == "note":
            file.attrs[what] = "for the paper"
        elif key:
            file[place].attrs[key] = "mV"
        elif what == "table/link":
            file[place] = h5py.SoftLink("/features")
        else:
            file[place] = np.zeros(3)
    before = path.read_bytes()
    with pytest.raises(StoreError, match=f"also holds {what if '/' in what else '@note'}, which is no part of a store"):
        toy.write(path, features=("pitch",))
    assert path.read_bytes() == before
    assert names_beside(path) == [".toy.h5.lock", "toy.h5"]


def test_files_of_others_beside_it_stay(toy, tmp_path):
    others = [".s[1].h5.precious.tmp", ".s[1].h5.int4.h5.tmp", ".s1.h5.tmp"]
    for name in others:
        (tmp_path / name).write_text("mine")
    for name in (".s[1].h5.tmp", ".s[1].h5.draft.77.tmp", ".s[1].h5.change.gone.tmp"):
        (tmp_path / name).write_text("left by a killed process")
    toy.write(tmp_path / "s[1].h5")
    assert names_beside(tmp_path / "s[1].h5") == sorted([*others, ".s[1].h5.lock", "s[1].h5"])


def test_a_link_in_a_circle_is_one_line(ser_store, tmp_path):
    (tmp_path / "loop.h5").symlink_to(tmp_path / "loop.h5")
    result = ser_store("repair", tmp_path / "loop.h5")
    assert (result.returncode, len(result.stderr.splitlines())) == (1, 1)


def test_damage_is_said_before_the_work_is_done(toy, path):
    toy.write(path)
    with tampered(path) as change:
        change.array(
            "features/states/time", featurestore.open(path).backend.array("features/states/time") + 1, "utterance"
        )
    writer = StoreWriter(path)
    with pytest.raises(StoreError, match=r"time of states in .* changed since it was written"), writer.lock():
        writer.plan_feature("pitch", toy.feature_plan("pitch"))
    assert names_beside(path) == [".toy.h5.lock", "toy.h5"]


def test_a_file_that_is_read_only_is_not_replaced(toy, path, monkeypatch):
    """The file system lets root write to any, so the test answers for it."""
    content = toy.write(path).read_bytes()
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(StoreError, match=r"toy\.h5 is read-only, .* make it writable"):
        toy.write(path, features=FEATURES)
    assert path.read_bytes() == content
    assert names_beside(path) == [".toy.h5.lock", "toy.h5"]


def test_a_lock_for_which_there_is_no_room_is_an_error_about_the_store(toy, mounted):
    path = toy.write(mounted / "toy.h5")
    content = path.read_bytes()
    (mounted / ".toy.h5.lock").unlink()
    (mounted / "filler").write_bytes(bytes(shutil.disk_usage(mounted).free))
    with pytest.raises(OSError, match=r"No space left on device: '.*toy\.h5'"), StoreWriter(path).lock():
        pass
    assert path.read_bytes() == content


small_change = Command("featurestore", "tests.featurestore.small_change")


def changes(path, kind):
    """Return for each instant, or limit: the exit status, the state of the store, what is left beside it, a message."""
    result = small_change(path, kind)
    assert (result.returncode, result.stderr) == (0, "")
    return [line.split("\t")[1:] for line in result.stdout.splitlines()]


@pytest.mark.parametrize(
    ("kind", "least", "problem"), [("size", 1, "File too large"), ("room", 3, "No space left on device")]
)
def test_a_small_change_without_room_happens_or_not(toy, request, suffix, kind, least, problem):
    folder = request.getfixturevalue("mounted" if kind == "room" else "tmp_path")
    path = toy.write(folder / f"toy{suffix}")
    *failed, last = changes(path, kind)
    assert last == ["0", "after", "0", ""]
    assert len(failed) >= least
    for status, state, beside, message in failed:
        assert (status, state, beside) == ("1", "before", "0")
        assert problem in message
        assert "\\n" not in message


def test_a_small_change_that_is_killed_happens_or_not(toy, tmp_path, suffix):
    path = toy.write(tmp_path / f"toy{suffix}")
    *killed, last = changes(path, "kill")
    assert last == ["0", "after", "0", ""]
    assert len(killed) > 20
    assert {(status, beside) for status, _, beside, _ in killed} == {("-9", "0")}
    states = [state for _, state, _, _ in killed]
    assert set(states) == {"before", "after"}
    assert states == sorted(states, reverse=True)  # from some instant on it has happened


def test_a_file_of_which_little_is_written_is_no_hole(path):
    """A plan has room for all frames, of which the disk holds nothing until they are extracted."""
    toy, dim, rng = Toy(), 1 << 16, np.random.default_rng(0)
    toy.states = {name: rng.normal(size=(3, count, dim)).astype(np.float32) for name, count in FRAMES.items()}
    toy.write(path, shards=(), dim=dim)
    assert path.stat().st_size > 64 * 512 * path.stat().st_blocks
    assert featurestore.open(path, partial=True).names(["states"]) == []
    for shards in ((1,), (0, 1, 2)):
        toy.write(path, shards=shards, dim=dim)
    store = featurestore.open(path)
    assert verify(store) == []
    assert np.allclose(store["a1"]["states"], toy.states["a1"], atol=0.1)
