"""Documents and tables from a stranger: what they say is checked before it is believed."""

from __future__ import annotations

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

import featurestore
from featurestore.operations.verify import verify
from tests.featurestore.probing import in_child, read_many
from tests.featurestore.strangers import in_file
from tests.featurestore.toy import tampered

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
        (store / ("features/states/manifest.json" if place == "manifest" else f"{place}/zarr.json")).write_bytes(
            content
        )
        wrapped = Path(shutil.copytree(given / "toy.zarr", given / f"{number}-in.zarr"))
        (wrapped / (f"{place}/zarr.json")).write_bytes(
            b'{"attributes": ' + (content or b"{") + b"}"
        ) if place != "manifest" else None
        file = Path(shutil.copy(given / "toy.h5", given / f"{number}.h5"))
        with h5py.File(file, "r+") as opened:
            name = "features/states/manifest" if place == "manifest" else f"{place}/attributes"
            if name in opened:
                in_file(opened, name, data=np.array(content or b" "))
    in_child(read_many, given, seconds=120)


ARRAYS = ("data", "mean", "sd", "scale", "offset")
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
    "2**62 bytes": {"files": {array: {"bytes": 1 << 62, "crc32c": 1} for array in ARRAYS}},
    "bytes of nothing": {"files": {array: {"bytes": 0, "crc32c": 0} for array in ARRAYS}},
}


def test_records_that_fit_nothing(given, suffix):
    path = given / f"toy{suffix}"
    manifest = featurestore.open(path).backend.manifest("states")
    shards = manifest["shards"]
    others = {
        **{
            name: {**manifest, "shards": {**shards, "0": {**shards["0"], **change}}} for name, change in RECORDS.items()
        },
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


@pytest.mark.parametrize(
    "name",
    [
        "9.json",
        "99999999999999999999.json",
        "²",
        "²".join(("", ".json")),
        "-1.json",
        "Thumbs.db",
        ".DS_Store",
        "x.json",
        "0.json",
    ],
)
def test_stray_files_among_the_records(given, victim, name):
    folder = given / "toy.zarr/features/states/shards"
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"\0" * 10)
    assert "verify STORE\n0" in victim(given / "toy.zarr")


@pytest.mark.parametrize(
    "name",
    [
        "features/.DS_Store",
        "features/Thumbs.db",
        "table/x.txt",
        "Thumbs.db",
        "features/states/x",
        "features/states/data/c/x",
    ],
)
def test_stray_files_elsewhere(given, victim, name):
    (given / "toy.zarr" / name).write_bytes(b"\0" * 10)
    said = victim(given / "toy.zarr")
    assert "verify STORE\n0" in said
    assert "repair STORE\n0" in said


# the table, and where frames lie

COLUMNS = {
    "shard": [
        [-1] + [0] * 8,
        [0, 0, 0, 0, 1, 1, 2, 2, 1 << 62],
        [2, 2, 2, 1, 1, 1, 0, 0, 0],
        [0, 0, 0, 0, 2, 2, 2, 2, 2],
        [1] * 9,
        [0] * 9,
        [],
        [0],
    ],
    "slot": [[-1] * 9, [0] * 9, [1 << 62] * 9, list(range(9)), [], [-(1 << 63)] * 9],
}
PLANS = {
    "start": [[-16] * 9, [0] * 9, [1 << 62] * 9, [1] * 9, [], [(1 << 63) - 16] * 9, [-(1 << 63)] * 9],
    "frames": [[-1] * 9, [0] * 9, [1 << 62] * 9, [(1 << 63) - 1] * 9, [1] * 9, [], [1 << 40] + [0] * 8],
    "time": [[np.nan] * 9, [np.inf] * 9, [-1e308] * 9, []],
}
OFFSETS = [
    [0, 2, 1, 2, 21, 21, 21, 21, 21, 21],
    [-1] * 10,
    [0] * 9 + [1 << 62],
    [0] * 9 + [21],
    [],
    [0],
    [0] * 10,
    [1, *range(8), 21],
]


@pytest.mark.parametrize("sealed", [False, True])
def test_numbers_that_fit_nothing(given, suffix, sealed):
    """With and without a manifest that agrees."""
    path = given / f"toy{suffix}"
    changes = [(f"table/{name}", np.array(v, np.int64)) for name, vs in COLUMNS.items() for v in vs]
    changes += [
        (f"features/states/{n}", np.array(v, np.float64 if n == "time" else np.int64))
        for n, vs in PLANS.items()
        for v in vs
    ]
    changes += [("table/name/offsets", np.array(v, np.int64)) for v in OFFSETS]
    manifest = featurestore.open(path).backend.manifest("states")
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


@pytest.mark.parametrize(
    "column",
    ["..", ".", "", "attributes", "zarr.json", "../../../home/numbers", "/etc/passwd", "\0", "x" * 5000, "a/b"],
)
def test_a_column_whose_name_leads_elsewhere(given, home, victim, column):
    for suffix in (".zarr", ".h5"):
        path = given / f"toy{suffix}"
        columns = featurestore.open(path).backend.attributes("table")["columns"]
        with tampered(path) as change:
            change.group("table", {"columns": {**columns, column: "float64"}})
        victim(path)


@pytest.mark.parametrize(
    "kinds",
    [
        {"duration": "text"},
        {"name": "float64"},
        {"shard": "float64"},
        {"slot": "bool"},
        {"V": "object"},
        {"V": None},
        {"V": ["text"]},
    ],
)
def test_columns_of_another_kind(given, victim, kinds):
    for suffix in (".zarr", ".h5"):
        path = given / f"toy{suffix}"
        columns = featurestore.open(path).backend.attributes("table")["columns"]
        with tampered(path) as change:
            change.group("table", {"columns": {**columns, **kinds}})
        victim(path)


SPECS = [
    {"layers": 0},
    {"layers": -1},
    {"layers": 1 << 62},
    {"layers": 10**400},
    {"layers": 2.5},
    {"dim": 0},
    {"dim": -5},
    {"dim": 1 << 40},
    {"hop": -1},
    {"hop": 1e308},
    {"hop": "x"},
    {"hop": None},
    {"dtype": "object"},
    {"dtype": "O"},
    {"dtype": ["int8"]},
    {"compress": "zstd"},
    {"compress": "pickle"},
    {"channels": 1},
    {"channels": [1]},
    {"channels": ["x"] * 1000},
    {"provenance": 1},
    {"provenance": {"settings": 1}},
    {"provenance": {"settings": {"a": [1]}, "weights": {}}},
    {"more": 1},
]


def test_features_that_cannot_be(given, suffix):
    path = given / f"toy{suffix}"
    backend = featurestore.open(path).backend
    spec, manifest = backend.attributes("features/states"), backend.manifest("states")
    del manifest["plan"]["attributes"]
    for number, change in enumerate(SPECS):
        copy = shutil.copytree if path.is_dir() else shutil.copy
        with tampered(Path(copy(path, given / f"other {number}{suffix}"))) as changed:
            changed.group("features/states", {**spec, **change})
            changed.manifest("states", manifest)
    in_child(read_many, given, seconds=120)


ROOTS = [
    {"format": 10**400},
    {"format": True},
    {"format": "2"},
    {"format": 2.0},
    {"dataset": 1},
    {"dataset": "../x"},
    {"ranges": []},
    {"ranges": {"V": 1}},
    {"ranges": {"V": [1e308, -1e308]}},
    {"ranges": {"V": [1, 2, 3]}},
    {"ranges": {"V": [1, 10**400]}},
    {"left_out": {"d1": None}},
    {"left_out": []},
    {"left_out": {"a1": "x"}},
    {"table_sha256": 1},
    {"crc32c": None},
    {"crc32c": {}},
    {"more": {"a": [[]]}},
]


def test_roots_that_cannot_be(given, suffix):
    path = given / f"toy{suffix}"
    attributes = featurestore.open(path).backend.attributes()
    for number, change in enumerate(ROOTS):
        copy = shutil.copytree if path.is_dir() else shutil.copy
        with tampered(Path(copy(path, given / f"other {number}{suffix}"))) as changed:
            changed.group("", {**attributes, **change})
    in_child(read_many, given, seconds=120)


@pytest.mark.parametrize("failed", [{}, {"b1": "gone", "b2": "gone"}, {"b2": "gone", "nobody": "gone"}])
def test_what_failed_is_what_has_no_frames(given, suffix, failed):
    path = given / f"toy{suffix}"
    manifest = featurestore.open(path).backend.manifest("states")
    manifest["shards"]["1"]["failed"] = failed
    with tampered(path) as change:
        change.manifest("states", manifest)
    (damage,) = verify(featurestore.open(path))
    assert (damage.feature, damage.shard) == ("states", 1)
    assert damage.problem == "the utterances that have failed are not those without a checksum"
