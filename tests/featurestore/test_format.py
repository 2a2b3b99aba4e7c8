"""Stores read by featurestore/FORMAT.md alone, and the bytes that must not change.

The readers use nothing of ours: json, struct and numpy for Zarr, h5py, json and numpy for HDF5.
"""

import hashlib
import json
import shutil
import struct
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from urllib.parse import quote

import h5py
import numpy as np
import pytest
from numcodecs import blosc

import featurestore
from featurestore.access.writer import StoreWriter
from featurestore.operations.verify import verify
from featurestore.shared.errors import StoreError
from tests.featurestore.toy import DIM, DTYPES, FAILED, FIRST, FRAMES, HOP, LAYERS, SHARDS, Toy, place_of

FEATURES = ("states", "pitch", *DTYPES)
NEVER = 2**64 - 1
ELEMENT = {"float32": "<f4", "float16": "<f2", "bfloat16": "<u2", "int8": "<i1", "int4": "<u1"}
BOUND = {"float32": 0.0, "float16": 2.0**-11, "bfloat16": 2.0**-8, "int8": 1 / 255, "int4": 1 / 15}
"""Largest error, as a share of the largest absolute value of the channel."""


class Reader:
    """What the readers of both have in common."""

    @cached_property
    def rows(self):
        return {name: row for row, name in enumerate(self.column("name", "text"))}

    def table(self):
        return {column: self.column(column, kind) for column, kind in self.attributes("table")["columns"].items()}

    def column(self, column, kind):
        path = f"table/{quote(column, safe=' ')}"
        if kind != "text":
            values = self.values(path)
            assert values.dtype == kind
            return values.tolist()
        content, offsets = self.values(f"{path}/bytes").tobytes(), self.values(f"{path}/offsets").tolist()
        return [content[a:b].decode() for a, b in pairwise(offsets)]

    def frames(self, feature, name):
        """Return the frames of an utterance as float32."""
        spec, stored = self.attributes(f"features/{feature}"), self.stored(feature, name)
        dtype, dim = spec["dtype"], spec["dim"]
        if dtype == "bfloat16":
            return (stored.astype("u4") << 16).view("f4")
        if dtype == "int4":
            halves = np.stack([stored & 15, stored >> 4], axis=-1)
            stored = halves.reshape(*stored.shape[:2], -1)[..., :dim]
        values = stored.astype("f4")
        if dtype in ("int8", "int4"):
            scale, offset = (self.pooled(feature, array, name)[:, None] for array in ("scale", "offset"))
            values = values * scale + offset
        return values

    def stored(self, feature, name):
        """Return the elements of an utterance's frames, without the padding."""
        spec, row = self.attributes(f"features/{feature}"), self.rows[name]
        start, count = (int(self.values(f"features/{feature}/{array}")[row]) for array in ("start", "frames"))
        width = (spec["dim"] + 1) // 2 if spec["dtype"] == "int4" else spec["dim"]
        assert start % 16 == 0
        block = self.block(feature, "data", row, start, count + -count % 16, width)
        padding = np.ascontiguousarray(block[:, count:])
        assert not padding.any()
        return block[:, :count]

    def pooled(self, feature, array, name):
        """Return what mean, sd, scale or offset hold of an utterance, (layers, dim)."""
        row = self.rows[name]
        slot = self.column("slot", "int64")[row]
        return self.block(feature, array, row, slot, 1, self.attributes(f"features/{feature}")["dim"])[:, 0]

    def element(self, feature, array):
        return np.dtype(ELEMENT[self.attributes(f"features/{feature}")["dtype"]] if array == "data" else "<f4")


class ZarrReader(Reader):
    """Reads Zarr."""

    def __init__(self, root):
        self.root = root

    def json(self, path):
        return json.loads((self.root / path).read_bytes())

    def attributes(self, group):
        return self.json(f"{group}/zarr.json" if group else "zarr.json")["attributes"]

    def values(self, path):
        document = self.json(f"{path}/zarr.json")
        dtype = np.dtype(document["data_type"]).newbyteorder("<")
        return np.fromfile(self.root / path / "c/0", dtype) if document["shape"] != [0] else np.empty(0, dtype)

    def features(self):
        return {path.name for path in (self.root / "features").iterdir()} - {"zarr.json"}

    def manifest(self, feature):
        return self.json(f"features/{feature}/manifest.json")

    def length(self, feature, array):
        grid = self.json(f"features/{feature}/{array}/zarr.json")["chunk_grid"]
        return grid["configuration"]["chunk_shape"][1]

    def shard(self, feature, array, number):
        """Return the file of a shard."""
        return (self.root / f"features/{feature}/{array}/c/0/{number}/0").read_bytes()

    def block(self, feature, array, row, start, count, width):
        layers, dtype = self.attributes(f"features/{feature}")["layers"], self.element(feature, array)
        content = self.shard(feature, array, self.column("shard", "int64")[row])
        first = start % self.length(feature, array)
        if array == "data" and self.attributes(f"features/{feature}")["compress"]:
            chunks = self.index(feature, array, content)[:, first // 16 : (first + count) // 16]
            parts = [blosc.decompress(content[a : a + size]) for a, size in chunks.reshape(-1, 2).tolist()]
            return np.frombuffer(b"".join(parts), dtype).reshape(layers, count, width)
        offset = first * layers * width * dtype.itemsize
        return np.frombuffer(content, dtype, layers * count * width, offset).reshape(layers, count, width)

    def index(self, feature, array, content):
        """Return where each inner chunk is, (layers, groups of 16 frames, 2) or (1, slots, 2)."""
        length, layers = self.length(feature, array), self.attributes(f"features/{feature}")["layers"]
        rows, columns = (layers, length // 16) if array == "data" else (1, length)
        begin = len(content) - 16 * rows * columns - 4
        assert struct.unpack("<I", content[-4:]) == (crc32c(content[begin:-4]),)
        return np.array(struct.unpack(f"<{2 * rows * columns}Q", content[begin:-4]), "u8").reshape(rows, columns, 2)


class Hdf5Reader(Reader):
    """Reads HDF5."""

    def __init__(self, path):
        self.path = path

    def attributes(self, group):
        return json.loads(self.values(f"{group}/attributes"))

    def values(self, path):
        with h5py.File(self.path) as file:
            return file[path][()]

    def features(self):
        with h5py.File(self.path) as file:
            return set(file["features"]) - {"attributes"}

    def manifest(self, feature):
        return json.loads(self.values(f"features/{feature}/manifest"))

    def length(self, feature, array):
        with h5py.File(self.path) as file:
            dataset = file[f"features/{feature}/{array}"]
            assert dataset.dtype == self.element(feature, array)
            return dataset.chunks[0] // int(dataset.attrs["layers"])

    def shard(self, feature, array, number):
        """Return the bytes of a chunk as they are in the file."""
        with h5py.File(self.path) as file:
            dataset = file[f"features/{feature}/{array}"]
            return dataset.id.read_direct_chunk((number * dataset.chunks[0], 0))[1]

    def block(self, feature, array, row, start, count, width):
        layers = self.attributes(f"features/{feature}")["layers"]
        assert start // self.length(feature, array) == self.column("shard", "int64")[row]
        with h5py.File(self.path) as file:
            rows = file[f"features/{feature}/{array}"][start * layers : (start + count) * layers]
        return rows.reshape(layers, count, width)


def crc32c(content):
    crc = 0xFFFFFFFF
    for byte in bytes(content):
        crc = crc >> 8 ^ CASTAGNOLI[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def castagnoli(value):
    for _ in range(8):
        value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    return value


CASTAGNOLI = [castagnoli(value) for value in range(256)]


def reader_of(path):
    return ZarrReader(path) if path.suffix == ".zarr" else Hdf5Reader(path)


@pytest.fixture(scope="session")
def reader(written):
    return reader_of(written)


def test_the_checksum_is_crc32c():
    assert crc32c(b"123456789") == 0xE3069283


def test_the_features_and_what_they_are(reader, written):
    assert reader.features() == set(FEATURES)
    for feature, spec in featurestore.open(written).features.items():
        assert reader.attributes(f"features/{feature}") == spec.to_dict()


@pytest.mark.parametrize("feature", FEATURES)
def test_every_utterance(toy, reader, written, feature):
    store = featurestore.open(written)
    bound = BOUND[reader.attributes(f"features/{feature}")["dtype"]]
    for name in toy.names:
        if feature != "pitch" and name in FAILED:
            continue
        found, put_in = reader.frames(feature, name), (toy.pitch if feature == "pitch" else toy.states)[name]
        assert np.array_equal(found, store[name][feature])
        assert (np.abs(found - put_in) <= bound * np.abs(put_in).max(axis=1, keepdims=True) + 1e-6 * (bound > 0)).all()


@pytest.mark.parametrize("feature", FEATURES)
def test_statistics_over_time(toy, reader, written, feature):
    for name in toy.readable:
        mean, sd = (values[0] for values in featurestore.open(written).feature(feature).pooled([name]))
        assert np.array_equal(reader.pooled(feature, "mean", name), mean)
        assert np.array_equal(reader.pooled(feature, "sd", name), sd)
        put_in = (toy.pitch if feature == "pitch" else toy.states)[name]
        assert np.allclose(mean, put_in.mean(axis=1), rtol=1e-5, atol=1e-5)
        assert np.allclose(sd, put_in.std(axis=1), rtol=1e-4, atol=1e-4)


def test_times(toy, reader, written):
    part = featurestore.open(written).feature("states")
    first, count = (reader.values(f"features/states/{array}") for array in ("time", "frames"))
    assert first.tolist() == [FIRST] * len(FRAMES)
    assert count.tolist() == list(FRAMES.values())
    for row, name in enumerate(toy.names):
        assert np.array_equal(first[row] + np.arange(count[row]) * HOP, part.times(name))


def test_the_table(toy, reader, written):
    table, opened = reader.table(), featurestore.open(written).utterances
    assert table["name"] == toy.names
    assert table["shard"] == list(SHARDS.values())
    assert {column: table[column] for column in toy.table} == toy.table.to_dict("list")
    assert {column: values for column, values in table.items() if column != "name"} == opened.to_dict("list")


def test_columns_of_every_kind_and_name(toy, suffix, tmp_path):
    others = {
        "a/b.c": ["x", "", "ü"] * 3,
        "50 % ~größe": [1, -2, 2**62] * 3,
        "acted": [True, False, True] * 3,
        "D": [0.5, np.nan, -0.0] * 3,
        "note": [""] * 9,
        "transcript": ["so\nsaid \N{SNOWMAN}", None, ""] * 3,
    }
    table = toy.table.assign(**others)
    writer = StoreWriter(tmp_path / f"toy{suffix}")
    with writer.lock():
        writer.plan(toy.plan_of(table))
    reader = reader_of(tmp_path / f"toy{suffix}")
    found = reader.table()
    kinds = reader.attributes("table")["columns"]
    assert [kinds[column] for column in others] == ["text", "int64", "bool", "float64", "text", "text"]
    for column, values in table.items():
        expected = values.fillna("") if kinds[column] == "text" else values
        assert np.array_equal(found[column], expected, equal_nan=column == "D")
    assert table_digest(found, kinds) == reader.attributes("")["table_sha256"]


def table_digest(table, kinds):
    digest = hashlib.sha256()
    for column, values in table.items():
        kind = {"text": "U", "float64": "f", "int64": "i", "bool": "b"}[kinds[column]]
        content = "\0".join(values).encode() if kind == "U" else np.array(values, kinds[column]).tobytes()
        digest.update(f"{column}\0{kind}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def test_the_root(reader):
    root = reader.attributes("")
    assert root.pop("crc32c") == json_checksum(root)
    assert root == {
        "format": 2,
        "dataset": "toy",
        "ranges": {"V": [1.0, 5.0]},
        "table_sha256": table_digest(reader.table(), reader.attributes("table")["columns"]),
        "left_out": {"d1": "no audio file d1.wav"},
    }


@pytest.mark.parametrize("feature", FEATURES)
def test_failures(reader, written, feature):
    records = reader.manifest(feature)["shards"].values()
    failed = {name: reason for record in records for name, reason in record["failed"].items()}
    assert failed == ({} if feature == "pitch" else FAILED) == featurestore.open(written).feature(feature).failed


@pytest.mark.parametrize("feature", FEATURES)
def test_checksums(toy, reader, feature):
    check_checksums(reader, feature)


def check_checksums(reader, feature):
    manifest, table = reader.manifest(feature), reader.table()
    plan = dict(manifest["plan"])
    assert plan.pop("attributes") == json_checksum(reader.attributes(f"features/{feature}"))
    for array, crc in plan.items():
        assert crc32c(reader.values(f"features/{feature}/{array}").tobytes()) == crc
    assert list(manifest["shards"]) == ["0", "1", "2"]
    for number, record in manifest["shards"].items():
        for array, file in record["files"].items():
            content = reader.shard(feature, array, int(number))
            assert len(content) == file["bytes"] or isinstance(reader, Hdf5Reader)
            assert crc32c(content[: file["bytes"]]) == file["crc32c"]
        names = [name for name, shard in zip(table["name"], table["shard"], strict=True) if shard == int(number)]
        crcs = [0 if name in record["failed"] else crc32c(block_bytes(reader, feature, name)) for name in names]
        assert record["utterances"] == "".join(f"{crc:08x}" for crc in crcs)


def json_checksum(document):
    return crc32c(json.dumps(document, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode())


def block_bytes(reader, feature, name):
    """Return the bytes of the block of an utterance."""
    spec, row = reader.attributes(f"features/{feature}"), reader.rows[name]
    start, count = (int(reader.values(f"features/{feature}/{array}")[row]) for array in ("start", "frames"))
    content = reader.shard(feature, "data", reader.column("shard", "int64")[row])
    first, filled = start % reader.length(feature, "data"), count + -count % 16
    if spec["compress"]:
        where = reader.index(feature, "data", content)[:, first // 16 : (first + filled) // 16]
        return b"".join(content[a : a + size] for a, size in where.reshape(-1, 2).tolist())
    width = (spec["dim"] + 1) // 2 if spec["dtype"] == "int4" else spec["dim"]
    frame = spec["layers"] * width * reader.element(feature, "data").itemsize
    return content[first * frame : (first + filled) * frame]


@pytest.mark.parametrize("dtype", ["float32", "int4"])
def test_compressed_frames_by_the_index(toy, tmp_path, dtype):
    reader = ZarrReader(toy.write(tmp_path / "toy.zarr", dtype, compress="zstd"))
    store = featurestore.open(tmp_path / "toy.zarr")
    for name in toy.readable:
        assert np.array_equal(reader.frames("states", name), store[name]["states"])
    check_checksums(reader, "states")


def test_the_index_says_what_the_formula_says(toy, tmp_path):
    reader = ZarrReader(toy.write(tmp_path / "toy.zarr"))
    for array, chunk in (("data", 16 * DIM), ("mean", LAYERS * DIM * 4), ("scale", LAYERS * DIM * 4)):
        check_index(toy, reader, array, chunk)


def check_index(toy, reader, array, chunk):
    places, slots = reader.values("features/states/start").tolist(), reader.column("slot", "int64")
    for number in range(3):
        index = reader.index("states", array, reader.shard("states", array, number))
        expected = np.full(index.shape, NEVER, "u8")
        for name, start, slot in zip(toy.names, places, slots, strict=True):
            if SHARDS[name] != number or name in FAILED:
                continue
            if array == "data":
                first, columns = start % reader.length("states", "data"), -(-FRAMES[name] // 16)
                chunks = np.arange(LAYERS * columns).reshape(LAYERS, columns)
                part = expected[:, first // 16 : first // 16 + columns]
                part[..., 0], part[..., 1] = first * LAYERS * DIM + chunks * chunk, chunk
            else:
                first = slot % reader.length("states", array)
                expected[0, first] = first * chunk, chunk
        assert np.array_equal(index, expected)


def test_records_of_an_unfinished_feature(toy, suffix, tmp_path):
    path = toy.write(tmp_path / f"toy{suffix}", shards=[0, 2])
    if suffix == ".zarr":
        folder = path / "features/states/shards"
        records = {file.stem: json.loads(file.read_bytes()) for file in folder.iterdir()}
        assert not (path / "features/states/manifest.json").exists()
    else:
        folder = tmp_path / ".toy.h5.draft"
        records = reader_of(path).manifest("states")["shards"]
    assert set(records) == {"0", "2"}
    toy.write(path)
    assert {k: reader_of(path).manifest("states")["shards"][k] for k in records} == records
    assert not folder.exists()


def test_an_interrupted_change_of_a_folder_is_finished(toy, tmp_path):
    path = toy.write(tmp_path / "toy.zarr")
    document = json.loads((path / "zarr.json").read_bytes())
    document["attributes"]["dataset"] = "renamed"
    (path / ".change").mkdir()
    (path / ".change/zarr.json").write_text(json.dumps(document))
    with pytest.raises(StoreError, match="a change was interrupted: run ser-store repair"):
        featurestore.open(path)
    (path / ".change/zarr.json").replace(path / "zarr.json")
    (path / ".change").rmdir()
    assert featurestore.open(path).dataset == "renamed"


class Exact(Toy):
    """Values whose statistics come out without rounding, so that the bytes are the same on every machine."""

    def __init__(self):
        super().__init__()
        self.table = self.table.assign(V=np.arange(len(FRAMES)) / 2)
        self.plan = self.plan_of(self.table)
        self.states, self.pitch = ({name: exact(n, *shape) for name, n in FRAMES.items()} for shape in ((3, 5), (1, 1)))


def exact(count, layers, dim):
    time = np.arange(count)[:, None] * 2 - (count - 1)
    return (time * (np.arange(dim) + 1) + np.arange(layers)[:, None, None] * 100).astype("f4")


GOLDEN = {
    "zarr.json": "01c8381c643d9e19",
    "table/name/bytes/c/0": "817df205ee462494",
    "features/states/zarr.json": "1e33f96433bd90b4",
    "features/states/start/c/0": "c41fc42503b2010f",
    "features/states/data/zarr.json": "33f7dd6e82123067",
    "features/states/data/c/0/0/0": "43c3b64be9b92c8a",
    "features/states/scale/c/0/2/0": "935599da4c25702a",
    "features/states/manifest.json": "71d12f2b8f6be733",
    "features/int4/data/c/0/1/0": "85f65333be59e3f1",
    "features/bfloat16/data/c/0/2/0": "6bc0d6b1f236f55e",
}
GOLDEN_CHUNKS = {
    "states/data": "c6974855daa7b904",
    "states/scale": "7db1260050fe51cb",
    "int4/data": "3edf0537f90be1ec",
    "bfloat16/data": "850ceac2e0a33b90",
}


def test_golden_bytes(suffix, tmp_path):
    """A change of these bytes is a change of the format, which FORMAT.md must follow, and perhaps the number."""
    path = tmp_path / f"toy{suffix}"
    for feature, dtype in (("states", "int8"), ("int4", "int4"), ("bfloat16", "bfloat16")):
        Exact().write(path, dtype, features=(feature,))
    if suffix == ".zarr":
        assert {file: digest((path / file).read_bytes()) for file in GOLDEN} == GOLDEN
        return
    found, reader = {}, Hdf5Reader(path)
    for place in GOLDEN_CHUNKS:
        feature, array = place.split("/")
        size = reader.manifest(feature)["shards"]["0"]["files"][array]["bytes"]
        found[place] = digest(reader.shard(feature, array, 0)[:size])
    assert found == GOLDEN_CHUNKS


@pytest.fixture
def golden(suffix, tmp_path):
    """The store of `test_golden_bytes` as the first version of this format wrote it."""
    shutil.unpack_archive(Path(__file__).parent / "golden" / f"toy{suffix}.tar.xz", tmp_path, filter="data")
    return tmp_path / f"toy{suffix}"


def test_a_golden_store_is_read_and_the_same_is_written_today(golden, suffix, tmp_path):
    store, exact = featurestore.open(golden), Exact()
    assert verify(store) == []
    assert store.names(["states"]) == exact.readable
    for name in exact.readable:
        assert np.abs(store[name]["states"] - exact.states[name]).max() <= np.ptp(exact.states[name]) / 255
    (tmp_path / "today").mkdir()
    today = tmp_path / "today" / golden.name
    for feature, dtype in (("states", "int8"), ("int4", "int4"), ("bfloat16", "bfloat16")):
        exact.write(today, dtype, features=(feature,))
    for feature in ("states", "int4", "bfloat16"):
        for array in featurestore.open(today).feature(feature).layouts:
            for number in range(3):
                assert place_of(featurestore.open(today), feature, array, number).read() == (
                    place_of(store, feature, array, number).read()
                )


def test_a_golden_store_is_changed_as_any_other(golden, toy):
    writer, before = StoreWriter(golden), featurestore.open(golden)
    with writer.change_at_once():
        writer.replace_table(writer.table.assign(A=1.0))
    with writer.lock():
        writer.plan_feature("pitch", toy.feature_plan("pitch"))
        toy.fill(writer, "pitch")
    store = featurestore.open(golden)
    assert verify(store) == []
    assert list(store.features) == ["bfloat16", "int4", "pitch", "states"]
    for name in before.names(["states"]):
        assert np.array_equal(store[name]["states"], before[name]["states"])


def digest(content):
    return hashlib.sha256(content).hexdigest()[:16]


def test_both_forms_hold_the_same_bytes(toy, tmp_path):
    zarr, hdf5 = (reader_of(toy.write(tmp_path / f"toy{suffix}")) for suffix in (".zarr", ".h5"))
    for array in ("data", "mean", "sd", "scale", "offset"):
        for number in range(3):
            content = zarr.shard("states", array, number)
            blocks = content[: -zarr.index("states", array, content).nbytes - 4]
            assert hdf5.shard("states", array, number).startswith(blocks)
            assert hdf5.manifest("states")["shards"][str(number)]["files"][array]["bytes"] == len(blocks)
