"""Other programs open our stores, and we read shards that others have written."""

import shutil
from itertools import pairwise

import h5py
import numpy as np
import pytest
import tensorstore
import xarray
import zarr

import featurestore
from featurestore.format.layout import ArrayLayout
from featurestore.format.local_files import LocalFiles
from featurestore.format.shard import open_zarr_shard
from featurestore.shared.errors import StoreError
from tests.featurestore.toy import DTYPES, FRAMES

STORED = {"float32": "float32", "float16": "float16", "bfloat16": "uint16", "int8": "int8", "int4": "uint8"}
FEATURES = ("pitch", *DTYPES)


def write(toy, path, dtypes=DTYPES, **settings):
    """Write pitch, and the states in several data types."""
    toy.write(path, features=("pitch",), **settings)
    for dtype in dtypes:
        toy.write(path, dtype, features=(dtype,), **settings)
    return path


@pytest.fixture(scope="module")
def folder(toy, tmp_path_factory):
    return write(toy, tmp_path_factory.mktemp("folder") / "toy.zarr")


@pytest.fixture(scope="module")
def packed(toy, tmp_path_factory):
    path = tmp_path_factory.mktemp("packed") / "toy.zarr"
    return write(toy, path, ("bfloat16", "int8"), compress="zstd")


@pytest.fixture(scope="module")
def file(toy, tmp_path_factory):
    return write(toy, tmp_path_factory.mktemp("file") / "toy.h5")


def by_zarr_python(path):
    return zarr.open_array(path, mode="r")


def by_tensorstore(path):
    kvstore = {"driver": "file", "path": str(path)}
    return tensorstore.open({"driver": "zarr3", "kvstore": kvstore}, read=True).result()


def by_xarray(path):
    return xarray.open_zarr(path.parent, consolidated=False, chunks=None)[path.name]


ways = pytest.mark.parametrize("way", [by_zarr_python, by_tensorstore, by_xarray])
# zarr-python lists a group and wonders about the manifest, which is no array
quietly = pytest.mark.filterwarnings("ignore:Object at manifest.json is not recognized as a component")


def check_frames(path, feature, way):
    """Compare what is in the arrays of a feature, read in another way, with what we read."""
    part = featurestore.open(path).feature(feature)
    data = way(path / f"features/{feature}/data")
    assert data.shape[0] == part.spec.layers
    assert data.dtype == STORED[part.spec.dtype]
    elements = np.asarray(data[:])
    start, count = (zarr.open_array(path / f"features/{feature}/{array}")[:] for array in ("start", "frames"))
    for row, name in enumerate(part.names_in(0) + part.names_in(1) + part.names_in(2)):
        stored = elements[:, start[row] : start[row] + count[row]]
        if name in part.failed:
            assert not stored.any()
            continue
        assert np.array_equal(stored, part.read(name).values)


@quietly
@ways
@pytest.mark.parametrize("feature", FEATURES)
def test_the_frames_of_a_folder(folder, feature, way):
    check_frames(folder, feature, way)


@quietly
@ways
@pytest.mark.parametrize("feature", ["pitch", "bfloat16", "int8"])
def test_the_frames_of_a_compressed_folder(packed, feature, way):
    check_frames(packed, feature, way)


@quietly
@ways
def test_int8_is_decoded_with_scale_and_offset(toy, folder, way):
    store = featurestore.open(folder)
    arrays = ("data", "scale", "offset", "start")
    data, scale, offset, start = (np.asarray(way(folder / f"features/int8/{array}")[:]) for array in arrays)
    slot = np.asarray(way(folder / "table/slot")[:])
    for row, name in enumerate(toy.names):
        if name in toy.readable:
            elements = data[:, start[row] : start[row] + FRAMES[name]].astype("f4")
            decoded = elements * scale[:, [slot[row]]] + offset[:, [slot[row]]]
            assert np.array_equal(decoded, store[name]["int8"])


@quietly
@ways
def test_bfloat16_is_the_upper_half_of_float32(toy, folder, way):
    store = featurestore.open(folder)
    data, start = (np.asarray(way(folder / f"features/bfloat16/{array}")[:]) for array in ("data", "start"))
    for row, name in enumerate(toy.names):
        if name in toy.readable:
            bits = data[:, start[row] : start[row] + FRAMES[name]].astype("u4") << 16
            assert np.array_equal(bits.view("f4"), store[name]["bfloat16"])


@quietly
@ways
@pytest.mark.parametrize("feature", ["pitch", "float16", "int4"])
def test_statistics_over_time(toy, folder, feature, way):
    part = featurestore.open(folder).feature(feature)
    slot = np.asarray(way(folder / "table/slot")[:])[[toy.names.index(name) for name in toy.readable]]
    for array, expected in zip(("mean", "sd"), part.pooled(toy.readable), strict=True):
        found = np.asarray(way(folder / f"features/{feature}/{array}")[:])
        assert np.array_equal(found[:, slot].swapaxes(0, 1), expected)


@ways
def test_numbers_of_the_table(toy, folder, way):
    assert np.array_equal(way(folder / "table/V")[:], toy.table["V"])


@quietly
def test_a_feature_is_a_dataset_of_xarray(folder):
    opened = xarray.open_zarr(folder / "features/int8", consolidated=False)
    assert opened["data"].dims == ("layer", "frame", "dim")
    assert opened["mean"].dims == opened["scale"].dims == ("layer", "slot", "dim")
    assert opened["start"].dims == ("utterance",)
    assert opened.attrs == featurestore.open(folder).features["int8"].to_dict()


def test_groups_and_text_in_zarr_python(folder, toy):
    root = zarr.open_group(folder, mode="r")
    assert root.attrs["dataset"] == "toy"
    assert sorted(root["features"].group_keys()) == sorted(FEATURES)
    assert root["features/int4"].attrs["dtype"] == "int4"
    name = root["table/name"]
    content, offsets = name["bytes"][:].tobytes(), name["offsets"][:].tolist()
    assert [content[a:b].decode() for a, b in pairwise(offsets)] == toy.names


@pytest.mark.parametrize("feature", FEATURES)
def test_h5py_opens_a_file(toy, file, feature):
    part = featurestore.open(file).feature(feature)
    names = [name for name in toy.names if name not in part.failed]
    expected = {name: (part.read(name).values, part.pooled([name])[0][0]) for name in names}
    with h5py.File(file) as opened:
        group, slots = opened[f"features/{feature}"], opened["table/slot"][()]
        data, layers = group["data"], group["data"].attrs["layers"]
        assert (layers, data.dtype) == (part.spec.layers, STORED[part.spec.dtype])
        for name, (values, mean) in expected.items():
            row = toy.names.index(name)
            start, frames = int(group["start"][row]), int(group["frames"][row])
            filled = frames + -frames % 16
            block = data[start * layers : (start + filled) * layers].reshape(layers, filled, -1)
            assert np.array_equal(block[:, :frames], values)
            assert np.array_equal(group["mean"][slots[row] * layers : (slots[row] + 1) * layers], mean)


def test_a_file_that_h5py_has_open_is_read(file):
    with h5py.File(file):
        assert featurestore.open(file)["a1"]["int8"].shape == (3, 20, 5)


def another_writer(path, values, shard, chunk, compressor=None, empty=True):
    """Write an array with zarr-python, which puts the chunks of a shard in its own order."""
    array = zarr.create_array(
        path,
        shape=values.shape,
        shards=shard,
        chunks=chunk,
        dtype=values.dtype,
        compressors=compressor,
        filters=None,
        config={"write_empty_chunks": empty},
    )
    array[:] = values


def write_again(path, change=lambda _: None, **settings):
    """Write an array that is there another time, its values changed in place by ``change``."""
    old = zarr.open_array(path, mode="r")
    values, shard, chunk = old[:], old.shards, old.chunks
    change(values)
    shutil.rmtree(path)
    another_writer(path, values, shard, chunk, **settings)


@pytest.mark.parametrize("dtype", STORED.values())
def test_a_shard_that_zarr_python_has_written_in_another_order(tmp_path, dtype):
    layout = ArrayLayout((4, 64, 3), (1, 16, 3), np.dtype(dtype))
    values = np.random.default_rng(2).integers(1, 100, layout.shard).astype(dtype)
    another_writer(tmp_path / "other", values, layout.shard, layout.chunk)
    files = LocalFiles(str(tmp_path))
    starts, counts = np.array([0, 32]), np.array([20, 32])
    reader = open_zarr_shard(lambda: files.open("other/c/0/0/0"), layout, "other", starts, counts)
    assert not reader.contiguous
    for first, count in ((0, 64), (0, 20), (16, 32), (48, 1)):
        assert np.array_equal(reader.get(first, count), values[:, first : first + count])
        assert np.array_equal(reader.get(first, count, slice(1, 3)), values[1:3, first : first + count])


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_store_whose_arrays_zarr_python_has_written_again(toy, tmp_path, folder, dtype):
    """As after a copy by another program: all values are the same, only the chunks lie elsewhere."""
    copy = shutil.copytree(folder, tmp_path / "copy.zarr")
    for array in ("data", "mean", "scale"):
        path = copy / f"features/{dtype}/{array}"
        if path.exists():
            write_again(path)
    mine, theirs = featurestore.open(folder), featurestore.open(copy)
    assert not theirs.feature(dtype).reader("data", 0).contiguous
    for layers in (None, 1, [2, 0]):
        for name in toy.readable:
            assert np.array_equal(theirs[name][dtype, layers], mine[name][dtype, layers])
    for batch in theirs.batches(toy.readable, [dtype], frames=60, seed=0):
        for name, frames in zip(batch.names, batch.frames[dtype], strict=True):
            assert np.array_equal(frames.decode(), mine[name][dtype])
    for found, expected in zip(*(store.feature(dtype).pooled(toy.readable) for store in (theirs, mine)), strict=True):
        assert np.array_equal(found, expected)


def test_a_compressed_store_with_another_compressor_of_blosc(toy, packed, tmp_path):
    path = shutil.copytree(packed, tmp_path / "toy.zarr")
    lz4 = zarr.codecs.BloscCodec(cname="lz4", shuffle="bitshuffle")
    write_again(path / "features/bfloat16/data", compressor=lz4)
    mine, theirs = featurestore.open(packed), featurestore.open(path)
    for name in toy.readable:
        assert np.array_equal(theirs[name]["bfloat16"], mine[name]["bfloat16"])


def test_chunks_that_nobody_has_written_are_refused(folder, tmp_path):
    path = shutil.copytree(folder, tmp_path / "toy.zarr")
    write_again(path / "features/int8/data", lambda values: values[:, :32].fill(0), empty=False)
    store = featurestore.open(path)
    with pytest.raises(StoreError, match="frames 0 to 20 were never written"):
        _ = store["a1"]["int8"]
    assert store["a2"]["int8"].shape == (3, 16, 5)
