"""Shard files: their bytes, reading them in any order of chunks, and what is refused."""

import hashlib
import struct
from itertools import permutations

import google_crc32c
import numpy as np
import pytest
import zarr

from featurestore.errors import StoreError
from featurestore.shard import ShardReader, ShardWriter

SHAPE, CHUNK = (2, 64, 3), (1, 16, 3)
PLACES = {"short": (0, 5), "long": (16, 20), "full": (48, 16)}


@pytest.fixture
def utterances():
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=(2, count, 3)).astype("<f4") for name, (_, count) in PLACES.items()}


def write(path, utterances, order=tuple(PLACES)):
    writer = ShardWriter(path, SHAPE, CHUNK)
    for name in order:
        writer.put(PLACES[name][0], utterances[name])
    return writer.close()


def read(path, name, layers=slice(None)):
    first, count = PLACES[name]
    return ShardReader(path, SHAPE, CHUNK, "<f4").get(first, count, layers)


def test_golden_bytes(tmp_path):
    """Chunks lie utterance by utterance, in each layer by layer, in each over time; then the index and its CRC32C."""
    writer = ShardWriter(tmp_path / "shard", (2, 64, 1), (1, 16, 1))
    two_chunks = np.arange(40, dtype=np.int8).reshape(2, 20, 1)
    one_chunk = np.array([[[100], [101]], [[110], [111]]], np.int8)
    writer.put(16, two_chunks)
    writer.put(0, one_chunk)
    record = writer.close()

    data = bytes(range(20)) + bytes(12) + bytes(range(20, 40)) + bytes(12)
    data += bytes([100, 101]) + bytes(14) + bytes([110, 111]) + bytes(14)
    never = 2**64 - 1
    index = struct.pack("<8Q", 64, 16, 0, 16, 16, 16, never, never)  # layer 0
    index += struct.pack("<8Q", 80, 16, 32, 16, 48, 16, never, never)  # layer 1
    expected = data + index + struct.pack("<I", google_crc32c.value(index))
    content = (tmp_path / "shard").read_bytes()
    assert content == expected
    assert record == {"bytes": len(expected), "crc32c": google_crc32c.value(expected)}
    assert hashlib.sha256(content).hexdigest() == "ae87a67c8776f9311d34e170bf3c02488f8700aad072a22e58873c7f0d2b9de6"


def test_nothing_has_the_final_name_before_close(tmp_path, utterances):
    writer = ShardWriter(tmp_path / "shard", SHAPE, CHUNK)
    writer.put(0, utterances["short"])
    assert not (tmp_path / "shard").exists()
    writer.close()
    assert [file.name for file in tmp_path.iterdir()] == ["shard"]


def test_abort_leaves_nothing(tmp_path, utterances):
    writer = ShardWriter(tmp_path / "shard", SHAPE, CHUNK)
    writer.put(0, utterances["short"])
    writer.abort()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("order", list(permutations(PLACES)))
def test_utterances_put_in_any_order_read_back(tmp_path, utterances, order):
    write(tmp_path / "shard", utterances, order)
    for name, values in utterances.items():
        assert np.array_equal(read(tmp_path / "shard", name), values)
        assert np.array_equal(read(tmp_path / "shard", name, slice(1, 2)), values[1:])


def test_an_utterance_is_one_view_of_the_file(tmp_path, utterances):
    write(tmp_path / "shard", utterances)
    values = read(tmp_path / "shard", "long")
    assert not values.flags.owndata
    assert not values.flags.writeable


def test_chunks_that_span_all_layers(tmp_path):
    shape, chunk = (2, 4, 3), (2, 1, 3)
    values = np.random.default_rng(1).normal(size=(4, 2, 1, 3)).astype("<f4")
    writer = ShardWriter(tmp_path / "shard", shape, chunk)
    for slot in (2, 0, 3):
        writer.put(slot, values[slot])
    writer.close()
    reader = ShardReader(tmp_path / "shard", shape, chunk, "<f4")
    for slot in (0, 2, 3):
        assert np.array_equal(reader.get(slot, 1), values[slot])
        assert np.array_equal(reader.get(slot, 1, slice(1, 2)), values[slot][1:])
    with pytest.raises(StoreError, match="never written"):
        reader.get(1, 1)


def test_frames_never_written_are_refused(tmp_path, utterances):
    write(tmp_path / "shard", utterances, ["short", "full"])
    with pytest.raises(StoreError, match="frames 16 to 36 were never written"):
        read(tmp_path / "shard", "long")
    assert np.array_equal(read(tmp_path / "shard", "full"), utterances["full"])


@pytest.mark.parametrize("kept", [0, 1, 3, 4, 100, -1])
def test_truncated_file_is_refused(tmp_path, utterances, kept):
    file = tmp_path / "shard"
    write(file, utterances)
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(StoreError, match=str(file)):
        read(file, "short")


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
    with pytest.raises(StoreError, match="cannot be read"):
        read(tmp_path / "shard", "short")


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
def test_shard_that_zarr_python_has_written_in_another_order(tmp_path, dtype):
    shape, chunk = (4, 64, 3), (1, 16, 3)
    values = np.random.default_rng(2).integers(1, 100, shape).astype(dtype)
    array = zarr.create_array(
        tmp_path / "other", shape=shape, shards=shape, chunks=chunk, dtype=dtype, compressors=None, filters=None
    )
    array[:] = values
    reader = ShardReader(tmp_path / "other/c/0/0/0", shape, chunk, dtype)
    offsets = reader._index[:2, :2, 0]
    assert not np.array_equal(np.sort(offsets, axis=None), offsets.ravel())  # it is another order indeed
    for first, count in ((0, 64), (0, 20), (16, 32), (48, 1)):
        assert np.array_equal(reader.get(first, count), values[:, first : first + count])
        assert np.array_equal(reader.get(first, count, slice(1, 3)), values[1:3, first : first + count])
