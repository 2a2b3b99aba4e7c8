"""A store from a stranger is data: it is read or refused, and nothing outside of it is read, moved or written over."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import socket
import struct
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import google_crc32c
import numpy as np
import pytest

import featurestore
from featurestore.format.opening import open_backend_to_write
from featurestore.operations.export import export_frames
from featurestore.operations.verify import verify
from featurestore.shared.errors import StoreError
from tests.featurestore.probing import as_plain, frames_of, in_child, read_all, read_many
from tests.featurestore.toy import FIRST, HOP, Toy
from tests.processes import FRESH, ensure_server


def linked(place, target):
    """Put a link in the place of a file or folder."""
    instead(place, lambda place: place.symlink_to(target))


def instead(place, make):
    """Make something else in the place of a file or folder."""
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    place.unlink(missing_ok=True)
    place.parent.mkdir(parents=True, exist_ok=True)
    make(place)


# links in a folder, and beside a store

LINKS = [
    ("features/states", "docs"),
    ("features", "docs"),
    ("table", "docs"),
    ("table/V", "docs"),
    ("table/V/c/0", "numbers"),
    ("table/V/c", "docs"),
    ("table/speaker/bytes/c/0", "secret"),
    ("zarr.json", "secret"),
    ("table/zarr.json", "secret"),
    ("features/states/zarr.json", "secret"),
    ("features/states/manifest.json", "secret"),
    ("features/states/shards", "docs"),
    ("features/states/shards/0.json", "secret"),
    ("features/states/data/c/0/0/0", "secret"),
    ("features/states/data/c/0/0", "docs"),
    ("features/states/mean/c/0/1/0", "secret"),
    ("features/states/start/c/0", "numbers"),
    ("features/.gone.removed", "docs"),
    ("features/more", "docs"),
    (".change", "docs"),
    (".change", "secret"),
    (".change.tmp", "docs"),
    (".change.tmp", "secret"),
    (".change/zarr.json", "secret"),
    (".change/features/docs", "docs"),
    ("table/V/c/0", "nothing"),
    ("features/states", "nothing"),
    ("zarr.json", "nothing"),
    (".change", "nothing"),
    ("table/V/c/0", "/dev/zero"),
    ("zarr.json", "/dev/zero"),
    ("features/states/data/c/0/0/0", "/dev/zero"),
    ("zarr.json", "/dev/tty"),
]


@pytest.mark.parametrize(("place", "target"), LINKS)
def test_links_in_a_folder_are_not_followed(given, home, victim, place, target):
    linked(given / "toy.zarr" / place, home / target)
    assert "link" in victim(given / "toy.zarr")
    assert (given / "toy.zarr" / place).is_symlink()  # repair has not put it away, either


@pytest.mark.parametrize("place", ["features/states", "zarr.json", "table/V/c/0", ".change"])
def test_links_in_a_circle_end(given, victim, place):
    linked(given / "toy.zarr" / place, ".")
    victim(given / "toy.zarr")
    linked(given / "toy.zarr" / place, Path(place).name)
    victim(given / "toy.zarr")


def test_a_feature_behind_a_link_is_no_feature_although_it_is_whole(given, home, victim):
    shutil.move(given / "toy.zarr/features/states", home / "states")
    (given / "toy.zarr/features/states").symlink_to(home / "states")
    assert "states is a symbolic link, which is not followed" in victim(given / "toy.zarr")


def test_a_change_does_not_go_through_a_link(given, home, victim):
    (given / "toy.zarr/features/x").symlink_to(home)
    change = given / "toy.zarr/.change/features/x"
    change.mkdir(parents=True)
    (change / ".bashrc").write_text("harm")
    victim(given / "toy.zarr")


def test_the_store_itself_may_be_behind_a_link(given, tmp_path):
    for name in ("toy.zarr", "toy.h5"):
        (tmp_path / name).symlink_to(given / name)
        assert verify(featurestore.open(tmp_path / name)) == []
        assert featurestore.open(tmp_path / name)["a1"]["states"].shape == (3, 20, 5)


@pytest.mark.parametrize("target", [".bashrc", "docs", "nothing"])
@pytest.mark.parametrize("gone", [False, True])
@pytest.mark.parametrize(
    ("store", "beside"),
    [
        ("toy.zarr", ".toy.zarr.lock"),
        ("toy.zarr", ".toy.zarr.tmp"),
        *(("toy.h5", f".toy.h5{end}") for end in (".lock", ".draft", ".change", ".tmp", ".draft.gone.tmp", ".x.tmp")),
    ],
)
def test_links_beside_a_store_lead_nowhere(given, home, victim, store, beside, target, gone):
    linked(given / beside, home / target)
    if gone:
        shutil.rmtree(given / store) if (given / store).is_dir() else (given / store).unlink()
    victim(given / store)
    assert not (home / "nothing").exists()


@pytest.mark.parametrize("kind", ["draft", "change"])
@pytest.mark.parametrize("gone", [False, True])
@pytest.mark.parametrize("place", [".draft.json", ".change", "features", "features/states", ".change.tmp"])
def test_links_in_a_folder_beside_a_file_are_not_followed(given, home, victim, kind, gone, place):
    linked(given / f".toy.h5.{kind}" / place, home / "docs")
    if gone:
        (given / "toy.h5").unlink()
    victim(given / "toy.h5")


# what is not a regular file


def a_pipe(place):
    os.mkfifo(place)


def a_socket(place):
    here = Path.cwd()
    os.chdir(place.parent)  # the name of a socket must be short
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(place.name)
    finally:
        os.chdir(here)


def a_folder(place):
    (place / "in it").mkdir(parents=True)


def an_empty_file(place):
    place.write_bytes(b"")


PLACES = [
    "zarr.json",
    "table/zarr.json",
    "table/V/c/0",
    "table/name/bytes/c/0",
    "table/shard/c/0",
    "features/zarr.json",
    "features/states/zarr.json",
    "features/states/manifest.json",
    "features/states/shards",
    "features/states/shards/0.json",
    "features/states/data/zarr.json",
    "features/states/data/c/0/0/0",
    "features/states/mean/c/0/0/0",
    "features/states/frames/c/0",
    ".change",
    ".change.tmp",
    "features",
    "table",
    "features/states",
]


@pytest.mark.parametrize("kind", [a_pipe, a_socket, a_folder, an_empty_file])
def test_what_is_no_file_of_a_store_is_refused(given, victim, tmp_path, kind):
    for number, place in enumerate(PLACES):
        store = Path(shutil.copytree(given / "toy.zarr", tmp_path / f"given/{number}.zarr"))
        instead(store / place, kind)
        in_child(read_all, store)
    for place in ("zarr.json", "table/V/c/0", "features/states/data/c/0/0/0", ".change"):
        store = Path(shutil.copytree(given / "toy.zarr", tmp_path / "given/whole.zarr"))
        instead(store / place, kind)
        victim(store)
        shutil.rmtree(store)


@pytest.mark.parametrize("kind", [a_pipe, a_socket, a_folder, an_empty_file])
@pytest.mark.parametrize(
    "place", ["toy.h5", ".toy.h5.draft", ".toy.h5.lock", ".toy.h5.tmp", ".toy.h5.draft/.draft.json"]
)
def test_what_is_no_file_beside_a_file(given, victim, kind, place):
    instead(given / place, kind)
    victim(given / "toy.h5")


# sizes


@pytest.mark.parametrize(
    "place",
    [
        "zarr.json",
        "table/zarr.json",
        "table/V/c/0",
        "table/name/bytes/c/0",
        "features/states/manifest.json",
        "features/states/data/c/0/0/0",
        "features/states/mean/c/0/0/0",
        "features/states/start/c/0",
    ],
)
def test_a_file_of_terabytes_of_which_the_disk_holds_nothing(given, victim, place):
    os.truncate(given / "toy.zarr" / place, 1 << 43)
    victim(given / "toy.zarr")


@pytest.mark.parametrize("place", ["table/V", "table/name/bytes", "table/shard", "features/states/start"])
def test_an_array_of_terabytes_that_says_so(given, victim, place):
    folder = given / "toy.zarr" / place
    document = json.loads((folder / "zarr.json").read_text())
    document["shape"] = [1 << 40]
    (folder / "zarr.json").write_text(json.dumps(document))
    os.truncate(folder / "c/0", (1 << 40) * (1 if "bytes" in place else 8))
    victim(given / "toy.zarr")


@pytest.mark.parametrize("frames", [1 << 30, 1 << 22])
def test_a_shard_of_terabytes_that_says_so(given, victim, frames):
    path = given / "toy.zarr"
    shards = [(path / "features/states/data/zarr.json", 1)]
    for file, axis in shards:
        document = json.loads(file.read_text())
        document["chunk_grid"]["configuration"]["chunk_shape"][axis] = 1 << 36
        file.write_text(json.dumps(document))
    os.truncate(path / "features/states/data/c/0/0/0", 1 << 42)
    backend = open_backend_to_write(path)
    with backend.change() as change:
        start = np.array(
            [0, frames, 2 * frames, 3 * frames, 1 << 36, (1 << 36) + 48, 2 << 36, (2 << 36) + 32, (2 << 36) + 80]
        )
        change.array("features/states/start", start, "utterance")
        change.array("features/states/frames", np.array([frames, frames, 33, 1, 48, 15, 17, 40, 5]), "utterance")
        manifest = backend.manifest("states")
        manifest["plan"] = {}
        manifest["shards"]["0"]["files"]["data"]["bytes"] = 1 << 42
        change.manifest("states", manifest)
    victim(path)


def test_compressed_frames_that_say_that_they_are_two_gigabytes(given, victim):
    for file in (given / "packed.zarr/features").rglob("data/c/0/*/0"):
        content = bytearray(file.read_bytes())
        for place in range(len(content) - 16):
            if content[place] == 2 and struct.unpack_from("<I", content, place + 4)[0] in (80, 64):
                struct.pack_into("<I", content, place + 4, 2**31 - 1)
        file.write_bytes(content)
    said = victim(given / "packed.zarr")
    assert "it claims to hold 2147483647 bytes" in said


def test_compressed_frames_that_are_two_gigabytes(tmp_path):
    from numcodecs import blosc

    chunk = bytes(blosc.compress(bytes(1 << 28), b"zstd", 1, blosc.SHUFFLE, 0))  # 16 frames
    path = Toy().write(tmp_path / "toy.zarr", "float32", compress="zstd")
    for name, shape, inner in (
        ("data", [3, 112, 1 << 22], [1, 16, 1 << 22]),
        *((n, [3, 4, 1 << 22], [3, 1, 1 << 22]) for n in ("mean", "sd")),
    ):
        file = path / f"features/states/{name}/zarr.json"
        document = json.loads(file.read_text())
        document["chunk_grid"]["configuration"]["chunk_shape"] = shape
        document["codecs"][0]["configuration"]["chunk_shape"] = inner
        file.write_text(json.dumps(document))
    spec = json.loads((path / "features/states/zarr.json").read_text())
    spec["attributes"]["dim"] = 1 << 22
    (path / "features/states/zarr.json").write_text(json.dumps(spec))
    index = struct.pack("<QQ", 0, len(chunk)) * 21
    for shard in range(3):
        content = chunk + index + struct.pack("<I", google_crc32c.value(index))
        (path / f"features/states/data/c/0/{shard}/0").write_bytes(content)
    assert "claim to hold" in in_child(read_many, tmp_path)


@pytest.mark.parametrize(
    "entry",
    [
        (2**64 - 1, 5),
        (2**63, 80),
        (2**63 - 1, 80),
        (10**6, 80),
        (0, 2**64 - 1),
        (0, 2**63),
        (0, 0),
        (0, 1 << 40),
        (2**64 - 1, 2**64 - 1),
    ],
)
def test_an_index_that_leads_out_of_its_file(given, victim, entry):
    for name in ("packed.zarr", "toy.zarr"):
        for array, chunks in (("data", 15), ("mean", 4)):
            file = given / name / f"features/states/{array}/c/0/0/0"
            content = file.read_bytes()
            index = bytearray(content[-4 - 16 * chunks : -4])
            struct.pack_into("<QQ", index, 0, *entry)
            file.write_bytes(content[: -4 - 16 * chunks] + index + struct.pack("<I", google_crc32c.value(bytes(index))))
        victim(given / name)


# names of utterances

NAMES = [
    "__metadata__",
    "..",
    ".",
    "a/../b",
    "/etc/passwd",
    "語" * 300,
    "x" * 300,
    "a\nb",
    "\x1b[31mred",
    "a\rb",
    "con",
    "-rf",
    "%2e%2e",
    "a\\b",
    " ",
    "\u202e",
    "🎈",
]


def test_what_cannot_be_exported_is_named_and_the_rest_stays_in_its_folder(tmp_path, suffix):
    import pandas as pd

    from featurestore.access.writer import StoreWriter
    from featurestore.format.plan import FeaturePlan, FeatureSpec, Plan

    table = pd.DataFrame({"duration": [0.4] * len(NAMES)}, index=pd.Index(NAMES, name="name"))
    writer = StoreWriter(tmp_path / f"odd{suffix}")
    count = np.full(len(NAMES), 20)
    with writer.lock():
        writer.plan(Plan.make(table, 100.0, dataset="odd"))
        spec = FeatureSpec(layers=1, dim=2, hop=HOP, dtype="float32")
        writer.plan_feature("f", FeaturePlan(spec, count, np.full(len(NAMES), FIRST)))
        with writer.shard("f", 0) as shard:
            for place, name in enumerate(NAMES):
                shard.add(name, np.full((1, 20, 2), place, np.float32))
        writer.commit("f")
    store = featurestore.open(tmp_path / f"odd{suffix}")
    for place, name in enumerate(NAMES):
        assert (store[name]["f"] == place).all()
    assert export_frames(store, tmp_path / "npy") == []
    files = sorted(path for path in tmp_path.joinpath("npy").rglob("*") if path.is_file())
    assert {path.parent for path in files} == {tmp_path / "npy/f"}
    assert sorted(int(np.load(path)[0, 0, 0]) for path in files) == list(range(len(NAMES)))
    left_out = export_frames(store, tmp_path / "tensors", kind="safetensors")
    assert [line.partition(":")[0] for line in left_out] == ["f of __metadata__"]
    from safetensors.numpy import load_file

    assert set(load_file(tmp_path / "tensors/f/0.safetensors")) == set(NAMES) - {"__metadata__"}


def test_the_table_that_is_read_is_the_one_that_was_written(given):
    for name in ("toy.zarr", "toy.h5"):
        toy = Toy()
        assert as_plain(featurestore.open(given / name).utterances[["V"]]) == as_plain(toy.table[["V"]])


def test_an_unknown_feature_of_a_path_is_refused(given):
    for name in ("toy.zarr", "toy.h5"):
        for feature in ("..", "../..", "", ".", "states/data", "/etc"):
            with pytest.raises(StoreError, match="has no feature"):
                featurestore.open(given / name).feature(feature)


# stores that stay open

KEEPS = """
import sys, featurestore
kept = [featurestore.open(path) for path in sys.argv[1:]]
values = [store["a1"]["states"] for store in kept] + [store["a1"]["pitch"] for store in kept]
views = [store.feature("states").read("a1") for store in kept]
batches = [next(store.batches(["a1", "a2", "b1"], ["states"], utterances=1, cached=False)) for store in kept]
begun = kept[0].batches(["a1", "a2", "b1"], ["states"], utterances=1)
next(begun)
sys.modules["kept"] = kept  # until the very end
"""


def test_a_process_that_ends_with_open_stores_says_nothing(given, environment):
    paths = [given / name for name in ("toy.zarr", "packed.zarr", "toy.h5")]
    command = [sys.executable, "-X", "dev", "-c", KEEPS, *paths]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


@pytest.mark.parametrize("name", ["toy.zarr", "packed.zarr", "toy.h5"])
def test_many_threads_read_one_store(given, name):
    toy, store = Toy(), featurestore.open(given / name)
    expected = {utterance: featurestore.open(given / name)[utterance]["states"] for utterance in toy.readable}

    def read(number):
        utterance = toy.readable[number % len(toy.readable)]
        assert np.array_equal(store[utterance]["states"], expected[utterance])
        return len(store.utterances), np.array_equal(store[utterance]["pitch"], toy.pitch[utterance])

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(read, range(200))) == {(9, True)}


@pytest.mark.parametrize("name", ["toy.zarr", "toy.h5"])
def test_an_open_store_goes_on_reading_the_files_that_it_opened(given, name):
    store = featurestore.open(given / name)
    before = {utterance: store[utterance]["states"] for utterance in ("a1", "b1")}
    view = store.feature("states").read("a1").values.copy()
    other = Toy()
    other.states = {utterance: values * 2 + 1 for utterance, values in other.states.items()}
    shutil.copytree(given, given.parent / "other")
    path = given.parent / "other" / name
    (shutil.rmtree if path.is_dir() else Path.unlink)(path)
    other.write(path, features=("states", "pitch"))
    if path.is_dir():
        for file in (given / name).rglob("data/c/0/*/0"):
            os.replace(path / file.relative_to(given / name), file)
    else:
        os.replace(path, given / name)
    assert np.array_equal(store["a1"]["states"], before["a1"])
    assert np.array_equal(store.feature("states").read("a1").values, view)
    if name == "toy.h5":  # all of a store is one file
        assert np.array_equal(store["c1"]["states"].shape, (3, 17, 5))
        assert verify(store) == []
        with pytest.raises(StoreError, match="has been replaced since it was opened"):
            pickle.loads(pickle.dumps(store))["a1"]["states"]
        assert not np.array_equal(featurestore.open(given / name)["a1"]["states"], before["a1"])


@pytest.mark.parametrize("name", ["toy.zarr", "toy.h5"])
def test_a_store_in_another_process_reads_the_same(given, name):
    store = featurestore.open(given / name)
    expected = store["a1"]["states"]
    ensure_server()
    with ProcessPoolExecutor(1, FRESH) as pool:
        assert np.array_equal(pool.submit(frames_of, store, "a1").result(), expected)
