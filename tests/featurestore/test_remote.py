"""Stores behind URLs: in the memory of fsspec, and on an S3 server that runs here."""

import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context

import fsspec
import numpy as np
import pandas as pd
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.spec import AbstractBufferedFile

import featurestore
from featurestore.access.writer import StoreWriter
from featurestore.format.plan import FeaturePlan, FeatureSpec, Plan
from featurestore.operations.verify import verify, verify_utterance
from featurestore.shared.errors import StoreError
from tests.featurestore.toy import DTYPES, FAILED, SUFFIXES

BUCKET = "speech"
SERVER = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def s3():
    """The file system of a server that runs here; other programs find it by the environment."""
    pytest.importorskip("moto.server", reason="moto is not installed")
    pytest.importorskip("s3fs", reason="s3fs is not installed")
    command = [sys.executable, "-c", SERVER]
    with subprocess.Popen(command, stdin=-1, stdout=-1, stderr=subprocess.DEVNULL, text=True) as server:
        with pytest.MonkeyPatch.context() as patch:
            for variable in [name for name in os.environ if name.startswith("AWS_")]:
                patch.delenv(variable)
            patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{int(server.stdout.readline())}")
            patch.setenv("AWS_ACCESS_KEY_ID", "not")
            patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
            patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
            patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
            patch.setenv("AWS_CONFIG_FILE", os.devnull)
            patch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
            patch.setenv("NO_PROXY", "127.0.0.1")
            filesystem = fsspec.filesystem("s3", skip_instance_cache=True)
            filesystem.mkdir(BUCKET)
            yield filesystem
        server.stdin.close()


@pytest.fixture(scope="module")
def on_s3(s3, written):
    files = [written]
    if written.is_dir():  # without two of the features: a request takes a while
        files = [file for file in written.rglob("*") if file.is_file() and not {"pitch", "states"} & set(file.parts)]
    s3.put([str(file) for file in files], [f"{BUCKET}/{file.relative_to(written.parent)}" for file in files])
    return f"s3://{BUCKET}/{written.name}"


@pytest.fixture(scope="module")
def in_memory(written):
    memory = MemoryFileSystem()
    memory.put(str(written), f"/{BUCKET}/{written.name}", recursive=written.is_dir())
    yield f"memory://{BUCKET}/{written.name}"
    memory.rm(f"/{BUCKET}", recursive=True)


@pytest.fixture(scope="module", params=["in_memory", "on_s3"])
def there(request, suffix):
    return featurestore.open(request.getfixturevalue(request.param))


@pytest.fixture(scope="module")
def here(written):
    return featurestore.open(written)


def test_every_utterance_in_every_data_type(there, here, toy):
    for dtype in DTYPES:
        assert there.features[dtype] == here.features[dtype]
    for batch in there.batches(toy.readable, DTYPES, frames=100, seed=0):
        for dtype in DTYPES:
            for name, frames in zip(batch.names, batch.frames[dtype], strict=True):
                assert np.array_equal(frames.decode(), here[name][dtype])


def test_utterances_and_layers_in_threads(there, here):
    wanted = [(name, layers) for name in ("a/3", "b1", "c3") for layers in (None, 1, [2, 0])]
    with ThreadPoolExecutor(8) as pool:
        found = pool.map(lambda pair: there[pair[0]]["int4", pair[1]], wanted)
        for (name, layers), frames in zip(wanted, found, strict=True):
            assert np.array_equal(frames, here[name]["int4", layers])


def test_the_table_and_what_is_missing(there, here, toy):
    pd.testing.assert_frame_equal(there.utterances, here.utterances)
    assert there.names(["int4"]) == toy.readable
    assert there.feature("int4").failed == FAILED
    assert there["a1"].labels.equals(here["a1"].labels)
    with pytest.raises(StoreError, match="b2 has no int4: the encoder ran out of memory"):
        _ = there["b2"]["int4"]


def test_statistics_and_times(there, here, toy):
    one, other = there.feature("int8"), here.feature("int8")
    for found, expected in zip(one.pooled(toy.readable), other.pooled(toy.readable), strict=True):
        assert np.array_equal(found, expected)
    assert np.array_equal(one.times("c1"), other.times("c1"))


def test_verify_of_one_utterance(there):
    assert verify_utterance(there, "c2") == []


def test_damage_is_found(in_memory, written):
    assert verify(featurestore.open(in_memory)) == []
    memory, copy = MemoryFileSystem(), f"/damaged{written.suffix}"
    memory.copy(in_memory.removeprefix("memory:/"), copy, recursive=written.is_dir())
    store = featurestore.open(f"memory:/{copy}")
    _, file, begin = store.backend.shard_file("float16", "data", 1)
    place = f"{copy}/{file}".rstrip("/")
    content = bytearray(memory.cat_file(place))
    content[begin + 3] ^= 1
    memory.pipe_file(place, bytes(content))
    found = verify(featurestore.open(f"memory:/{copy}"))
    assert [(damage.feature, damage.shard, damage.names) for damage in found] == [("float16", 1, ["b1", "b2"])]
    memory.rm(copy, recursive=True)


def test_an_unfinished_folder(toy, tmp_path):
    toy.write(tmp_path / "toy.zarr", shards=[0, 2])
    memory = MemoryFileSystem()
    memory.put(str(tmp_path / "toy.zarr"), "/unfinished.zarr", recursive=True)
    store = featurestore.open("memory://unfinished.zarr", partial=True)
    assert store.names(["states"]) == ["a1", "a2", "a/3", "ä 4", "c1", "c2", "c3"]
    assert store["c1"]["states"].shape == (3, 17, 5)
    memory.rm("/unfinished.zarr", recursive=True)


@pytest.mark.parametrize("place", ["memory://nowhere", f"s3://{BUCKET}/nowhere", "s3://no-such-bucket/nowhere"])
def test_no_store_there(s3, place, suffix):
    with pytest.raises(StoreError, match=f"^no store at {place}{suffix}; ser-extract makes one$"):
        featurestore.open(place + suffix)


def test_an_unknown_protocol():
    with pytest.raises(StoreError, match=r"^nowhere://toy.zarr cannot be opened: Protocol not known: nowhere$"):
        featurestore.open("nowhere://toy.zarr")


def test_no_credentials(s3, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(StoreError, match=f"^s3://{BUCKET}/toy.zarr cannot be reached: Unable to locate credentials"):
        featurestore.open(f"s3://{BUCKET}/toy.zarr")


def test_a_url_is_not_written_to(suffix):
    with pytest.raises(StoreError, match="is not on this machine, where stores are written: write it here and copy it"):
        StoreWriter(f"memory://toy{suffix}")


def test_a_url_is_no_target_of_the_command(toy, tmp_path, monkeypatch):
    from featurestore.cli import app  # not in every process

    toy.write(tmp_path / "toy.zarr")
    monkeypatch.chdir(tmp_path)
    for command in (["convert", "toy.zarr", "memory://copy.zarr"], ["merge", "memory://copy.zarr", "toy.zarr"]):
        with pytest.raises(StoreError, match=r"memory://copy.zarr is not on this machine"):
            app(command, exit_on_error=False)
    assert not (tmp_path / "memory:").exists()


@pytest.fixture(scope="module")
def small_ones(s3, toy, tmp_path_factory):
    """Small stores on S3, one with each backend, and the states in them."""
    folder = tmp_path_factory.mktemp("small")
    for suffix in SUFFIXES:
        toy.write(folder / f"small{suffix}")
    s3.put(str(folder), BUCKET, recursive=True)
    urls = [f"s3://{BUCKET}/{folder.name}/small{suffix}" for suffix in SUFFIXES]
    return urls, featurestore.open(folder / "small.zarr")


stores = []


def keep(opened):
    """Keep stores that this process has opened, had before a fork, or been sent."""
    stores[:] = opened


def read_in_batches(names):
    found = []
    for store in stores:
        batches = store.batches(names, ["states"], utterances=1, threads=4)
        found.append({batch.names[0]: batch.frames["states"][0].decode() for batch in batches})
    return found


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork:DeprecationWarning")
@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_other_processes_read_the_same(small_ones, context):
    urls, here = small_ones
    names = ["a1", "b1", "c1", "c3"]
    keep([featurestore.open(url) for url in urls])
    read_in_batches(names)  # opens connections, which must not travel
    with ProcessPoolExecutor(1, get_context(context), initializer=keep, initargs=(list(stores),)) as pool:
        found = pool.submit(read_in_batches, names).result(60)
    assert len(found) == len(SUFFIXES)
    for frames in found:
        assert sorted(frames) == names
        for name in names:
            assert np.array_equal(frames[name], here[name]["states"])


def test_objects_that_stand_for_folders(s3, small_ones):
    """Consoles and some programs that copy make them."""
    url, _ = small_ones[0]
    for folder in ("", "features/", "features/states/"):
        key = url.removeprefix(f"s3://{BUCKET}/")
        s3.call_s3("put_object", Bucket=BUCKET, Key=f"{key}/{folder}", Body=b"")
    store = featurestore.open(url)
    assert list(store.features) == ["states"]
    assert verify(store) == []


class CountedFile(AbstractBufferedFile):
    """An open file as other file systems have it: it fetches ranges, in blocks of its own size."""

    def _fetch_range(self, start, end):
        return self.fs.cat_file(self.path, start=start, end=end)


class CountedFileSystem(MemoryFileSystem):
    """A file system that counts the bytes it has given out."""

    protocol = "counted"
    store, pseudo_dirs = {}, [""]
    given = 0

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.removeprefix("counted://"))

    def cat_file(self, path, start=None, end=None, **_):
        content = self.store[self._strip_protocol(path)].getvalue()[start:end]
        CountedFileSystem.given += len(content)
        return content

    def _open(self, path, mode="rb", **how):
        if mode != "rb":
            return super()._open(path, mode, **how)
        known = ("block_size", "cache_type", "cache_options")
        return CountedFile(self, path, mode, **{key: value for key, value in how.items() if key in known})


@pytest.fixture(scope="module")
def large(suffix, tmp_path_factory):
    """The URL of a store of 20 MB, and its size."""
    names = [f"u{i}" for i in range(40)]
    path = tmp_path_factory.mktemp("large") / f"large{suffix}"
    table = pd.DataFrame({"duration": [10.0] * 40}, index=pd.Index(names, name="name"))
    spec = FeatureSpec(layers=8, dim=32, hop=0.02, dtype="float32")
    writer = StoreWriter(path)
    frames = np.random.default_rng(0).normal(size=(8, 500, 32)).astype("f4")
    with writer.lock():
        writer.plan(Plan.make(table, 200.0, dataset="large"))
        writer.plan_feature("states", FeaturePlan(spec, np.full(40, 500), np.zeros(40)))
        for number in writer.pending("states"):
            with writer.shard("states", number) as shard:
                for name in shard.names:
                    shard.add(name, frames)
        writer.commit("states")
    fsspec.register_implementation("counted", CountedFileSystem, clobber=True)
    filesystem = CountedFileSystem()
    filesystem.put(str(path), f"/{path.name}", recursive=path.is_dir())
    return f"counted://{path.name}", filesystem.du(f"/{path.name}")


def bytes_given(read):
    before = CountedFileSystem.given
    read()
    return CountedFileSystem.given - before


def test_only_what_is_asked_for_is_fetched(large):
    url, size = large
    assert size > 20e6
    store = None

    def open_and_read():
        nonlocal store
        store = featurestore.open(url)
        return store.utterances, store["u7"]["states"]

    assert bytes_given(open_and_read) < size / 4
    padded = 8 * 512 * 32 * 4
    assert bytes_given(lambda: store["u8"]["states"]) == padded
    assert bytes_given(lambda: store["u9"]["states", 3]) == padded / 8
    assert bytes_given(lambda: store["u9"]["states", 2:5]) == padded * 3 / 8
    assert bytes_given(lambda: list(store.batches(["u10", "u11", "u12"], ["states"], utterances=2))) == 3 * padded
