"""Shard files: their bytes, reading them, and what is refused."""

import hashlib
import struct
from functools import partial

import google_crc32c
import numpy as np
import pytest

from featurestore.format.layout import ArrayLayout
from featurestore.format.local_files import LocalFiles
from featurestore.format.shard import ZarrShardWriter, open_zarr_shard
from featurestore.shared.errors import StoreError

FLOAT = np.dtype(np.float32)
LAYOUT = ArrayLayout((2, 64, 3), (1, 16, 3), FLOAT)
PACKED = ArrayLayout((2, 64, 3), (1, 16, 3), FLOAT, compress=True)
PLACES = {"short": (0, 5), "long": (16, 20), "full": (48, 16)}


@pytest.fixture
def utterances():
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=(2, count, 3)).astype("<f4") for name, (_, count) in PLACES.items()}


def write(path, utterances, layout=LAYOUT, names=tuple(PLACES)):
    writer = ZarrShardWriter(path, layout)
    for name in names:
        writer.put(PLACES[name][0], utterances[name])
    return writer.close()


def open_shard(path, layout=LAYOUT, places=None):
    files = LocalFiles(str(path.parent))
    starts, counts = np.array(places or list(PLACES.values())).T
    return open_zarr_shard(partial(files.open, path.name), layout, str(path), starts, counts)


def read(path, name, layers=slice(None), layout=LAYOUT):
    return open_shard(path, layout).get(*PLACES[name], layers)


def test_golden_bytes(tmp_path):
    """Chunks lie utterance by utterance, in each layer by layer, in each over time; then the index and its CRC32C."""
    writer = ZarrShardWriter(tmp_path / "shard", ArrayLayout((2, 64, 1), (1, 16, 1), np.dtype(np.int8)))
    one_chunk = np.array([[[100], [101]], [[110], [111]]], np.int8)
    two_chunks = np.arange(40, dtype=np.int8).reshape(2, 20, 1)
    crcs = [writer.put(0, one_chunk), writer.put(16, two_chunks)]
    record = writer.close()

    first = bytes([100, 101]) + bytes(14) + bytes([110, 111]) + bytes(14)
    second = bytes(range(20)) + bytes(12) + bytes(range(20, 40)) + bytes(12)
    never = 2**64 - 1
    index = struct.pack("<8Q", 0, 16, 32, 16, 48, 16, never, never)  # layer 0
    index += struct.pack("<8Q", 16, 16, 64, 16, 80, 16, never, never)  # layer 1
    expected = first + second + index + struct.pack("<I", google_crc32c.value(index))
    content = (tmp_path / "shard").read_bytes()
    assert content == expected
    assert crcs == [google_crc32c.value(first), google_crc32c.value(second)]
    assert record == {"bytes": len(expected), "crc32c": google_crc32c.value(expected)}
    assert hashlib.sha256(content).hexdigest() == "3bf690b92c21f706695165cd46cb4b16662b5c3fe559f09b541c9a7b975ed249"


def test_nothing_has_the_final_name_before_close(tmp_path, utterances):
    writer = ZarrShardWriter(tmp_path / "shard", LAYOUT)
    writer.put(0, utterances["short"])
    assert not (tmp_path / "shard").exists()
    writer.close()
    assert [file.name for file in tmp_path.iterdir()] == ["shard"]


def test_abort_leaves_nothing(tmp_path, utterances):
    writer = ZarrShardWriter(tmp_path / "shard", LAYOUT)
    writer.put(0, utterances["short"])
    writer.abort()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("layout", [LAYOUT, PACKED], ids=["raw", "packed"])
def test_utterances_read_back(tmp_path, utterances, layout):
    write(tmp_path / "shard", utterances, layout)
    for name, values in utterances.items():
        assert np.array_equal(read(tmp_path / "shard", name, layout=layout), values)
        assert np.array_equal(read(tmp_path / "shard", name, slice(1, 2), layout), values[1:])


def test_an_utterance_is_one_view_of_the_file(tmp_path, utterances):
    write(tmp_path / "shard", utterances)
    assert open_shard(tmp_path / "shard").contiguous
    values = read(tmp_path / "shard", "long")
    assert not values.flags.owndata
    assert not values.flags.writeable


def test_an_utterance_without_frames_leaves_a_hole(tmp_path, utterances):
    write(tmp_path / "shard", utterances, names=["short", "full"])
    assert open_shard(tmp_path / "shard").contiguous
    assert np.array_equal(read(tmp_path / "shard", "full"), utterances["full"])


def test_chunks_that_span_all_layers(tmp_path):
    layout = ArrayLayout((2, 4, 3), (2, 1, 3), FLOAT)
    values = np.random.default_rng(1).normal(size=(4, 2, 1, 3)).astype("<f4")
    writer = ZarrShardWriter(tmp_path / "shard", layout)
    for slot in (0, 2, 3):
        writer.put(slot, values[slot])
    writer.close()
    reader = open_shard(tmp_path / "shard", layout, [(0, 1), (1, 1), (2, 1), (3, 1)])
    for slot in (0, 2, 3):
        assert np.array_equal(reader.get(slot, 1), values[slot])
        assert np.array_equal(reader.get(slot, 1, slice(1, 2)), values[slot][1:])


def test_chunks_never_written_are_refused(tmp_path, utterances):
    write(tmp_path / "shard", utterances, PACKED, ["short", "full"])
    with pytest.raises(StoreError, match="frames 16 to 36 were never written"):
        read(tmp_path / "shard", "long", layout=PACKED)


@pytest.mark.parametrize("kept", [0, 1, 3, 4, 100, -1])
def test_truncated_file_is_refused(tmp_path, utterances, kept):
    file = tmp_path / "shard"
    write(file, utterances)
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(StoreError, match=str(file)):
        read(file, "short")


def test_a_block_beyond_the_end_is_refused(tmp_path, utterances):
    write(tmp_path / "shard", utterances)
    with pytest.raises(StoreError, match="it is damaged; run ser-store verify"):
        open_shard(tmp_path / "shard").get(64 * 100, 16)


@pytest.mark.parametrize("place", [-1, -4, -5, -(2 * 4 * 16 + 4)])
def test_flipped_byte_of_the_index_is_refused(tmp_path, utterances, place):
    file = tmp_path / "shard"
    write(file, utterances)
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)
    with pytest.raises(StoreError, match="index does not match its checksum; run ser-store verify"):
        read(file, "short")


def test_absent_file_is_refused(tmp_path):
    with pytest.raises(StoreError, match="shard is missing"):
        read(tmp_path / "shard", "short")
