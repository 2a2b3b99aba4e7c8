"""A store from a stranger is data: it is read or refused, and nothing outside of it is read, moved or written over."""

from __future__ import annotations

import json
import os
import shutil
import socket
import struct
from pathlib import Path

import google_crc32c
import h5py
import numpy as np
import pytest

import featurestore
from featurestore.errors import StoreError
from featurestore.export import export_frames
from featurestore.forms import open_form_to_write
from featurestore.verify import verify
from tests.featurestore.lookup3 import metadata_blocks, with_checksum
from tests.featurestore.probing import as_plain, in_child, read_all, read_many, use
from tests.featurestore.toy import FIRST, HOP, Toy, tampered

SECRET = b"what nobody else may see 4711"
PRIVATE = np.full(9, 4711.5)


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """Stores of both forms, and one with compressed frames."""
    folder = tmp_path_factory.mktemp("stores")
    for name, settings in {"toy.zarr": {}, "toy.h5": {}, "packed.zarr": {"compress": "zstd"}}.items():
        Toy().write(folder / name, features=("states", "pitch"), **settings)
    return folder


@pytest.fixture
def given(stores, tmp_path):
    """The folder that a stranger has sent."""
    return Path(shutil.copytree(stores, tmp_path / "given"))


@pytest.fixture
def home(tmp_path):
    """A folder of the victim's own."""
    home = tmp_path / "home"
    (home / "docs").mkdir(parents=True)
    for file in (".bashrc", "secret", "docs/thesis"):
        (home / file).write_bytes(SECRET)
    PRIVATE.tofile(home / "numbers")
    return home


@pytest.fixture
def victim(given, home, tmp_path):
    """Does everything with a store; its own files stay as they are, and come to no place where others see them."""
    labels = tmp_path / "labels.csv"
    labels.write_text("name,mood\na1,good\n")
    out = tmp_path / "out"
    out.mkdir()

    def try_all(path):
        before = whole_tree(home)
        said = in_child(use, path, out, labels)
        assert whole_tree(home) == before
        written = [path for folder in (out, given) for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
        for content in (said.encode(), *(path.read_bytes() for path in written if path.stat().st_size < 1 << 24)):
            assert SECRET not in content
            assert b"4711.5" not in content
            assert PRIVATE.tobytes() not in content
        return said

    return try_all


def whole_tree(folder):
    return {path: path.read_bytes() if path.is_file() else path.is_dir() for path in sorted(folder.rglob("*"))}


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


# what is no plain file


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
@pytest.mark.parametrize("place", ["toy.h5", ".toy.h5.draft", ".toy.h5.lock", ".toy.h5.tmp", ".toy.h5.draft/.draft.json"])
def test_what_is_no_file_beside_a_file(given, victim, kind, place):
    instead(given / place, kind)
    victim(given / "toy.h5")


# HDF5


def in_file(file, name, *arguments, **settings):
    """Put another dataset in the place of one."""
    del file[name]
    return file.create_dataset(name, *arguments, **settings)


def as_external(file, name, home, count=9):
    in_file(file, name, (count,), "f8", external=[(str(home / "numbers"), 0, count * 8)])


def as_virtual(file, name, home):
    with h5py.File(home / "other.h5", "w") as other:
        other["V"] = PRIVATE
    layout = h5py.VirtualLayout((9,), "f8")
    layout[:] = h5py.VirtualSource(home / "other.h5", "V", (9,))
    del file[name]
    file.create_virtual_dataset(name, layout)


def as_external_link(file, name, home):
    with h5py.File(home / "other.h5", "w") as other:
        other["V"] = PRIVATE
    del file[name]
    file[name] = h5py.ExternalLink(str(home / "other.h5"), "/V")


def low_level(file, name, shape, chunk=None, alloc=h5py.h5d.ALLOC_TIME_LATE, maximum=None):
    """Put a dataset of any size in the place of one, of which nothing is written."""
    del file[name]
    settings = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    settings.set_alloc_time(alloc)
    settings.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    if chunk:
        settings.set_chunk(chunk)
    space = h5py.h5s.create_simple(shape, maximum or shape)
    parent, _, last = name.rpartition("/")
    h5py.h5d.create(file[parent or "/"].id, last.encode(), h5py.h5t.NATIVE_INT8, space, dcpl=settings)
    file[name].attrs["layers"] = 3


def hard_link_to(file, name, target):
    file[target]  # it is there
    if name in file:
        del file[name]
    file[name] = file[target]


def nested(file, name, depth=3000):
    group = file[name]
    for _ in range(depth):
        group = group.create_group("g")


DATA, ATTRIBUTES, V, BYTES = "features/states/data", "features/states/attributes", "table/V", "table/name/bytes"
HDF5 = {
    "external storage": lambda f, home: as_external(f, V, home),
    "external storage of names": lambda f, home: in_file(f, BYTES, (29,), "u1", external=[(str(home / "secret"), 0, 29)]),
    "external storage of attributes": lambda f, home: in_file(f, "attributes", (), "S29", external=[(str(home / "secret"), 0, 29)]),
    "external storage of frames": lambda f, home: as_external(f, DATA, home),
    "virtual": lambda f, home: as_virtual(f, V, home),
    "virtual frames": lambda f, home: as_virtual(f, DATA, home),
    "external link": lambda f, home: as_external_link(f, V, home),
    "external link of a feature": lambda f, home: as_external_link(f, "features/states", home),
    "external link of all features": lambda f, home: as_external_link(f, "features", home),
    "soft link": lambda f, home: (f.move(V, "table/W"), f.__setitem__(V, h5py.SoftLink("/table/W"))),
    "soft link of a feature": lambda f, home: f.__setitem__("features/more", h5py.SoftLink("/features/states")),
    "soft link in a circle": lambda f, home: f.__setitem__("features/more", h5py.SoftLink("/features/more")),
    "dangling soft link": lambda f, home: f.__setitem__("features/more", h5py.SoftLink("/nothing")),
    "two names of a feature": lambda f, home: hard_link_to(f, "features/more", "features/states"),
    "groups in a circle": lambda f, home: hard_link_to(f, "features/more", "features"),
    "the root as a feature": lambda f, home: hard_link_to(f, "features/more", "/"),
    "the table as a group in a circle": lambda f, home: hard_link_to(f, "table/V", "table"),
    "deep": lambda f, home: nested(f, "features"),
    "a feature of nothing": lambda f, home: f.create_group("features/more"),
    "a feature is a dataset": lambda f, home: f.create_dataset("features/more", data=1),
    "a feature is a type": lambda f, home: f.__setitem__("features/more", np.dtype("f8")),
    "all features are a dataset": lambda f, home: in_file(f, "features", data=[1, 2]),
    "an attribute and no dataset": lambda f, home: (f.attrs.__setitem__("attributes", f["attributes"][()]), f.__delitem__("attributes")),
    "attributes of no fixed length": lambda f, home: in_file(f, "attributes", data="{}", dtype=h5py.string_dtype()),
    "attributes of many lengths": lambda f, home: in_file(f, "attributes", data=[b"{}", b"{}"]),
    "attributes are numbers": lambda f, home: in_file(f, "attributes", data=1.5),
    "attributes are nothing": lambda f, home: in_file(f, "attributes", data=h5py.Empty("S9")),
    "attributes are compound": lambda f, home: in_file(f, "attributes", (), [("a", "i4"), ("b", "S4")]),
    "attributes are an array": lambda f, home: in_file(f, ATTRIBUTES, data=np.zeros((2, 2), "S3")),
    "references": lambda f, home: in_file(f, V, data=f.ref, dtype=h5py.ref_dtype),
    "texts of any length": lambda f, home: in_file(f, V, data=["a"] * 9, dtype=h5py.string_dtype()),
    "lists": lambda f, home: in_file(f, V, (9,), h5py.vlen_dtype("f8")),
    "opaque": lambda f, home: in_file(f, V, data=np.zeros(9, "V8")),
    "complex": lambda f, home: in_file(f, V, data=np.zeros(9, "c16")),
    "long numbers": lambda f, home: in_file(f, V, data=np.zeros(9, "f16")),
    "an enumeration": lambda f, home: in_file(f, V, data=np.zeros(9, "i8"), dtype=h5py.enum_dtype({"a": 0}, "i8")),
    "big-endian": lambda f, home: in_file(f, "table/shard", data=f["table/shard"][()].astype(">i8")),
    "in two dimensions": lambda f, home: in_file(f, V, data=np.zeros((9, 2))),
    "scalar": lambda f, home: in_file(f, "features/states/start", data=1),
    "empty": lambda f, home: in_file(f, V, data=h5py.Empty("f8")),
    "a bomb": lambda f, home: in_file(f, V, (1 << 32,), "f8", chunks=(1 << 24,), compression="gzip"),
    "a bomb of frames": lambda f, home: in_file(f, DATA, (1 << 30, 5), "i1", chunks=(1 << 22, 5), compression="gzip"),
    "a filter": lambda f, home: in_file(f, DATA, data=f[DATA][()], chunks=f[DATA].chunks, shuffle=True),
    "2**40 values": lambda f, home: low_level(f, V, (1 << 40,)),
    "2**40 values in chunks": lambda f, home: low_level(f, V, (1 << 40,), (1 << 20,)),
    "2**60 bytes of names": lambda f, home: low_level(f, BYTES, (1 << 60,)),
    "2**40 rows": lambda f, home: low_level(f, DATA, (1 << 40, 5), (3, 5)),
    "2**40 shards of one row": lambda f, home: low_level(f, DATA, (1 << 40, 1), (1, 1)),
    "2**40 rows without an index": lambda f, home: low_level(f, DATA, (1 << 40, 5), (1 << 24, 5), h5py.h5d.ALLOC_TIME_LATE),
    "rows in no chunk": lambda f, home: low_level(f, DATA, (432, 5)),
    "no rows": lambda f, home: low_level(f, DATA, (0, 5), (48, 5), maximum=(h5py.h5s.UNLIMITED, 5)),
    "no width": lambda f, home: low_level(f, DATA, (432, 0), (144, 1), maximum=(432, h5py.h5s.UNLIMITED)),
    "chunks that do not fit": lambda f, home: low_level(f, DATA, (432, 5), (100, 3)),
    "chunks of one row": lambda f, home: low_level(f, DATA, (432, 5), (1, 5)),
    "in three dimensions": lambda f, home: low_level(f, DATA, (3, 144, 5), (1, 144, 5)),
    **{
        f"layers is {value!r}": lambda f, home, value=value: f[DATA].attrs.__setitem__("layers", value)
        for value in (0, -1, 1 << 62, 2.5, float("nan"), "text", "3", [3], [1, 2], b"\xff", h5py.Empty("i8"), True)
    },
    "no layers": lambda f, home: f[DATA].attrs.clear(),
    "layers of mean": lambda f, home: f["features/states/mean"].attrs.__setitem__("layers", 0),
}  # fmt: skip


@pytest.mark.parametrize("case", HDF5)
def test_what_hdf5_can_hold_and_a_store_does_not(given, home, victim, case):
    with h5py.File(given / "toy.h5", "r+", libver="latest") as file:
        HDF5[case](file, home)
    victim(given / "toy.h5")


@pytest.mark.parametrize("name", [b"..", b".", b"../../x", b"/etc", b"\0", b"zarr.json", b".hidden", b"a\0b", b"\xff", "é".encode(), b"x" * 300])
def test_a_feature_whose_name_leads_elsewhere_is_refused(given, victim, name):
    stand_in = b"Q" * len(name)
    with h5py.File(given / "toy.h5", "r+", libver="latest") as file:
        h5py.h5o.link(file["features/states"].id, file["features"].id, stand_in)
    content = (given / "toy.h5").read_bytes()
    place = content.index(stand_in)
    (begin, end), = (block for block in metadata_blocks(content) if block[0] < place < block[1])
    content = content[:place] + name + content[place + len(name) :]
    (given / "toy.h5").write_bytes(with_checksum(content, begin, end))
    said = victim(given / "toy.h5")
    assert ("do not trust it" in said) == (name not in (b"\xff", "é".encode(), b"x" * 300))


@pytest.mark.parametrize("size", [0, 1, 7, 8, 47, 48, 100, 5000])
def test_a_file_that_ends_early(given, victim, size):
    content = (given / "toy.h5").read_bytes()
    (given / "toy.h5").write_bytes(content[:size])
    victim(given / "toy.h5")


# JSON

NESTED = b"[" * 100_000 + b"]" * 100_000
DOCUMENTS = {
    "nested": NESTED,
    "nested in a key": b'{"format": 2, "a": ' + NESTED + b"}",
    "NaN": b'{"format": NaN}',
    "infinite": b'{"format": 1e400}',
    "large": b'{"format": ' + b"9" * 400 + b"}",
    "too large": b'{"format": ' + b"9" * 5000 + b"}",
    "twice": b'{"format": 2, "format": 3}',
    "not UTF-8": b'{"format": "\xff"}',
    "a mark": b"\xef\xbb\xbf{}",
    "UTF-16": '{"format": 2}'.encode("utf-16"),
    "half a character": b'{"format": "\\ud800"}',
    "half a character as a key": b'{"\\ud800": 2}',
    "half a character in UTF-8": b'{"a": "\xed\xa0\x80"}',
    "a list": b"[1, 2]",
    "a number": b"1",
    "null": b"null",
    "a text": b'"text"',
    "nothing": b"",
    "NUL": bytes(1000),
    "lists": b'{"a": [' + b"[]," * 3_000_000 + b"[]]}",
}
JSON_PLACES = ("", "table", "features/states", "features/states/data", "table/V", "table/name/bytes", "manifest")


@pytest.mark.parametrize("document", DOCUMENTS)
def test_json_that_is_none(given, victim, document):
    content = DOCUMENTS[document]
    for number, place in enumerate(JSON_PLACES):
        store = Path(shutil.copytree(given / "toy.zarr", given / f"{number}.zarr"))
        (store / ("features/states/manifest.json" if place == "manifest" else f"{place}/zarr.json")).write_bytes(content)
        wrapped = Path(shutil.copytree(given / "toy.zarr", given / f"{number}-in.zarr"))
        (wrapped / (f"{place}/zarr.json")).write_bytes(b'{"attributes": ' + (content or b"{") + b"}") if place != "manifest" else None
        file = Path(shutil.copy(given / "toy.h5", given / f"{number}.h5"))
        with h5py.File(file, "r+") as opened:
            name = "features/states/manifest" if place == "manifest" else f"{place}/attributes"
            if name in opened:
                in_file(opened, name, data=np.array(content or b" "))
    in_child(read_many, given, seconds=120)


RECORDS = {
    "failed is a list": {"failed": ["a1"]},
    "failed is a text": {"failed": "a1"},
    "failed has a number": {"failed": {"a1": 1}},
    "failed is of nobody": {"failed": {"nobody": "gone"}},
    "failed is of another shard": {"failed": {"c1": "gone"}},
    "flagged is null": {"flagged": None},
    "too few checksums": {"utterances": "00000000"},
    "half a checksum": {"utterances": "0" * 33},
    "checksums of letters": {"utterances": "z" * 32},
    "checksums are a number": {"utterances": 1},
    "no files": {"files": {}},
    "files of another kind": {"files": {"data": 1}},
    "a file above": {"files": {"../../zarr.json": {"bytes": 1, "crc32c": 1}}},
    "negative bytes": {"files": {"data": {"bytes": -1, "crc32c": 1}}},
    "2**63 bytes": {"files": {"data": {"bytes": 1 << 63, "crc32c": 1}}},
    "2**62 bytes": {"files": dict.fromkeys(("data", "mean", "sd", "scale", "offset"), {"bytes": 1 << 62, "crc32c": 1})},
    "bytes of nothing": {"files": dict.fromkeys(("data", "mean", "sd", "scale", "offset"), {"bytes": 0, "crc32c": 0})},
}


@pytest.mark.parametrize("suffix", [".zarr", ".h5"])
def test_records_that_fit_nothing(given, suffix):
    path = given / f"toy{suffix}"
    manifest = featurestore.open(path).form.manifest("states")
    shards = manifest["shards"]
    others = {
        **{name: {**manifest, "shards": {**shards, "0": {**shards["0"], **change}}} for name, change in RECORDS.items()},
        **{
            f"shard {number}": {**manifest, "shards": {**shards, number: shards["0"]}}
            for number in ("3", "-1", "007", "1e3", "9" * 18, "9" * 30, "x", "", "²", "../0")
        },
        "no shards": {**manifest, "shards": {}},
        "shards are a list": {**manifest, "shards": [shards["0"]]},
        "no plan": {**manifest, "plan": {}},
        "a plan of null": {**manifest, "plan": None},
        "a plan of texts": {**manifest, "plan": {"start": "1"}},
    }
    for number, document in enumerate(others.values()):
        copy = shutil.copytree if path.is_dir() else shutil.copy
        with tampered(Path(copy(path, given / f"other {number}{suffix}"))) as change:
            change.manifest("states", document)
    in_child(read_many, given, seconds=120)


@pytest.mark.parametrize("name", ["9.json", "99999999999999999999.json", "²", "²".join(("", ".json")), "-1.json", "Thumbs.db", ".DS_Store", "x.json", "0.json"])
def test_stray_files_among_the_records(given, victim, name):
    folder = given / "toy.zarr/features/states/shards"
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"\0" * 10)
    assert "verify STORE\n0" in victim(given / "toy.zarr")


@pytest.mark.parametrize("name", ["features/.DS_Store", "features/Thumbs.db", "table/x.txt", "Thumbs.db", "features/states/x", "features/states/data/c/x"])
def test_stray_files_elsewhere(given, victim, name):
    (given / "toy.zarr" / name).write_bytes(b"\0" * 10)
    said = victim(given / "toy.zarr")
    assert "verify STORE\n0" in said
    assert "repair STORE\n0" in said


# the table, and where frames lie

COLUMNS = {
    "shard": [[-1] + [0] * 8, [0, 0, 0, 0, 1, 1, 2, 2, 1 << 62], [2, 2, 2, 1, 1, 1, 0, 0, 0], [0, 0, 0, 0, 2, 2, 2, 2, 2], [1] * 9, [0] * 9, [], [0]],
    "slot": [[-1] * 9, [0] * 9, [1 << 62] * 9, list(range(9)), [], [-(1 << 63)] * 9],
}  # fmt: skip
PLANS = {
    "start": [[-16] * 9, [0] * 9, [1 << 62] * 9, [1] * 9, [], [(1 << 63) - 16] * 9, [-(1 << 63)] * 9],
    "frames": [[-1] * 9, [0] * 9, [1 << 62] * 9, [(1 << 63) - 1] * 9, [1] * 9, [], [1 << 40] + [0] * 8],
    "time": [[np.nan] * 9, [np.inf] * 9, [-1e308] * 9, []],
}
OFFSETS = [[0, 2, 1, 2, 21, 21, 21, 21, 21, 21], [-1] * 10, [0] * 9 + [1 << 62], [0] * 9 + [21], [], [0], [0] * 10, [1, *range(8), 21]]


@pytest.mark.parametrize("suffix", [".zarr", ".h5"])
@pytest.mark.parametrize("sealed", [False, True])
def test_numbers_that_fit_nothing(given, suffix, sealed):
    """With and without a manifest that agrees."""
    path = given / f"toy{suffix}"
    changes = [(f"table/{name}", np.array(v, np.int64)) for name, vs in COLUMNS.items() for v in vs]
    changes += [(f"features/states/{n}", np.array(v, np.float64 if n == "time" else np.int64)) for n, vs in PLANS.items() for v in vs]
    changes += [("table/name/offsets", np.array(v, np.int64)) for v in OFFSETS]
    manifest = featurestore.open(path).form.manifest("states")
    for number, (place, values) in enumerate(changes):
        copy = shutil.copytree if path.is_dir() else shutil.copy
        with tampered(Path(copy(path, given / f"other {number}{suffix}"))) as change:
            change.array(place, values, "utterance")
            if sealed:
                change.manifest("states", {**manifest, "plan": {}})
    in_child(read_many, given, seconds=180)


def test_a_name_that_is_there_twice_is_refused(given, victim):
    for suffix in (".zarr", ".h5"):
        with tampered(given / f"toy{suffix}") as change:
            change.array("table/name/bytes", np.frombuffer(b"a1a1a/3\xc3\xa4 4b1b2c1c2c3", np.uint8), "byte")
        assert "the name 'a1' is there twice" in victim(given / f"toy{suffix}")


@pytest.mark.parametrize("column", ["..", ".", "", "attributes", "zarr.json", "../../../home/numbers", "/etc/passwd", "\0", "x" * 5000, "a/b"])
def test_a_column_whose_name_leads_elsewhere(given, home, victim, column):
    for suffix in (".zarr", ".h5"):
        path = given / f"toy{suffix}"
        columns = featurestore.open(path).form.attributes("table")["columns"]
        with tampered(path) as change:
            change.group("table", {"columns": {**columns, column: "float64"}})
        victim(path)


@pytest.mark.parametrize("kinds", [{"duration": "text"}, {"name": "float64"}, {"shard": "float64"}, {"slot": "bool"}, {"V": "object"}, {"V": None}, {"V": ["text"]}])
def test_columns_of_another_kind(given, victim, kinds):
    for suffix in (".zarr", ".h5"):
        path = given / f"toy{suffix}"
        columns = featurestore.open(path).form.attributes("table")["columns"]
        with tampered(path) as change:
            change.group("table", {"columns": {**columns, **kinds}})
        victim(path)


SPECS = [{"layers": 0}, {"layers": -1}, {"layers": 1 << 62}, {"layers": 10**400}, {"layers": 2.5}, {"dim": 0}, {"dim": -5}, {"dim": 1 << 40}, {"hop": -1},
         {"hop": 1e308}, {"hop": "x"}, {"hop": None}, {"dtype": "object"}, {"dtype": "O"}, {"dtype": ["int8"]}, {"compress": "zstd"}, {"compress": "pickle"}, {"channels": 1},
         {"channels": [1]}, {"channels": ["x"] * 1000}, {"provenance": 1}, {"provenance": {"settings": 1}}, {"provenance": {"settings": {"a": [1]}, "weights": {}}}, {"more": 1}]  # fmt: skip


@pytest.mark.parametrize("suffix", [".zarr", ".h5"])
def test_features_that_cannot_be(given, suffix):
    path = given / f"toy{suffix}"
    form = featurestore.open(path).form
    spec, manifest = form.attributes("features/states"), form.manifest("states")
    del manifest["plan"]["attributes"]
    for number, change in enumerate(SPECS):
        copy = shutil.copytree if path.is_dir() else shutil.copy
        with tampered(Path(copy(path, given / f"other {number}{suffix}"))) as changed:
            changed.group("features/states", {**spec, **change})
            changed.manifest("states", manifest)
    in_child(read_many, given, seconds=120)


ROOTS = [{"format": 10**400}, {"format": True}, {"format": "2"}, {"format": 2.0}, {"dataset": 1}, {"dataset": "../x"}, {"ranges": []}, {"ranges": {"V": 1}}, {"ranges": {"V": [1e308, -1e308]}},
         {"ranges": {"V": [1, 2, 3]}}, {"ranges": {"V": [1, 10**400]}}, {"left_out": {"d1": None}}, {"left_out": []}, {"left_out": {"a1": "x"}}, {"table_sha256": 1}, {"crc32c": None}, {"crc32c": {}}, {"more": {"a": [[]]}}]  # fmt: skip


@pytest.mark.parametrize("suffix", [".zarr", ".h5"])
def test_roots_that_cannot_be(given, suffix):
    path = given / f"toy{suffix}"
    attributes = featurestore.open(path).form.attributes()
    for number, change in enumerate(ROOTS):
        copy = shutil.copytree if path.is_dir() else shutil.copy
        with tampered(Path(copy(path, given / f"other {number}{suffix}"))) as changed:
            changed.group("", {**attributes, **change})
    in_child(read_many, given, seconds=120)


# sizes


@pytest.mark.parametrize("place", ["zarr.json", "table/zarr.json", "table/V/c/0", "table/name/bytes/c/0", "features/states/manifest.json", "features/states/data/c/0/0/0", "features/states/mean/c/0/0/0", "features/states/start/c/0"])
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
    form = open_form_to_write(path)
    with form.change() as change:
        start = np.array([0, frames, 2 * frames, 3 * frames, 1 << 36, (1 << 36) + 48, 2 << 36, (2 << 36) + 32, (2 << 36) + 80])
        change.array("features/states/start", start, "utterance")
        change.array("features/states/frames", np.array([frames, frames, 33, 1, 48, 15, 17, 40, 5]), "utterance")
        manifest = form.manifest("states")
        manifest["plan"] = {}
        manifest["shards"]["0"]["files"]["data"]["bytes"] = 1 << 42
        change.manifest("states", manifest)
    victim(path)


def test_hdf5_of_terabytes_that_says_so(given, victim):
    """With room for it in a file, of which the disk holds nothing."""
    with h5py.File(given / "toy.h5", "r+", libver="latest") as file:
        low_level(file, V, (1 << 41,), alloc=h5py.h5d.ALLOC_TIME_EARLY)
        low_level(file, "features/pitch/data", (1 << 40, 1), (1 << 10, 1), alloc=h5py.h5d.ALLOC_TIME_LATE)
        low_level(file, BYTES, (1 << 41,), alloc=h5py.h5d.ALLOC_TIME_EARLY)
        low_level(file, "attributes", (1 << 41,), alloc=h5py.h5d.ALLOC_TIME_EARLY)
    victim(given / "toy.h5")


def test_compressed_frames_that_say_that_they_are_two_gigabytes(given, victim):
    for file in (given / "packed.zarr/features").rglob("data/c/0/*/0"):
        content = bytearray(file.read_bytes())
        for place in range(len(content) - 16):
            if content[place] == 2 and struct.unpack_from("<I", content, place + 4)[0] in (80, 64):
                struct.pack_into("<I", content, place + 4, 2**31 - 1)
        file.write_bytes(content)
    said = victim(given / "packed.zarr")
    assert "it says that it holds 2147483647 bytes" in said


def test_compressed_frames_that_are_two_gigabytes(tmp_path):
    from numcodecs import blosc

    chunk = bytes(blosc.compress(bytes(1 << 28), b"zstd", 1, blosc.SHUFFLE, 0))  # 16 frames
    path = Toy().write(tmp_path / "toy.zarr", "float32", compress="zstd")
    for name, shape, inner in (("data", [3, 112, 1 << 22], [1, 16, 1 << 22]), *((n, [3, 4, 1 << 22], [3, 1, 1 << 22]) for n in ("mean", "sd"))):
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
    assert "say that they hold" in in_child(read_many, tmp_path)


@pytest.mark.parametrize("entry", [(2**64 - 1, 5), (2**63, 80), (2**63 - 1, 80), (10**6, 80), (0, 2**64 - 1), (0, 2**63), (0, 0), (0, 1 << 40), (2**64 - 1, 2**64 - 1)])
def test_an_index_that_leads_out_of_its_file(given, victim, entry):
    for name in ("packed.zarr", "toy.zarr"):
        for array, chunks in (("data", 15), ("mean", 4)):
            file = given / name / f"features/states/{array}/c/0/0/0"
            content = file.read_bytes()
            index = bytearray(content[-4 - 16 * chunks : -4])
            struct.pack_into("<QQ", index, 0, *entry)
            file.write_bytes(content[: -4 - 16 * chunks] + index + struct.pack("<I", google_crc32c.value(bytes(index))))
        victim(given / name)


def test_a_file_with_many_features_is_listed(given, victim):
    with h5py.File(given / "toy.h5", "r+", libver="latest") as file:
        for number in range(3000):
            file.create_group(f"features/{number}")
    in_child(read_all, given / "toy.h5")


# names of utterances

NAMES = ["__metadata__", "..", ".", "a/../b", "/etc/passwd", "語" * 300, "x" * 300, "a\nb", "\x1b[31mred", "a\rb", "con", "-rf", "%2e%2e", "a\\b", " ", "\u202e", "🎈"]


@pytest.mark.parametrize("suffix", [".zarr", ".h5"])
def test_what_cannot_be_exported_is_named_and_the_rest_stays_in_its_folder(tmp_path, suffix):
    import pandas as pd

    from featurestore.plan import FeaturePlan, FeatureSpec, Plan
    from featurestore.writer import StoreWriter

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
