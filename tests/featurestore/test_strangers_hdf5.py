"""An HDF5 file from a stranger: what HDF5 can hold and a store does not is refused."""

from __future__ import annotations

import json
import shutil

import h5py
import numpy as np
import pytest

from tests.featurestore.lookup3 import metadata_blocks, with_checksum
from tests.featurestore.probing import in_child, read_all
from tests.featurestore.strangers import PRIVATE, in_file
from tests.featurestore.toy import Toy


@pytest.fixture
def given(stores, tmp_path):
    """The folder that a stranger has sent, with the file alone."""
    folder = tmp_path / "given"
    folder.mkdir()
    shutil.copy(stores / "toy.h5", folder)
    return folder


def as_external(file, name, home, count=9):
    in_file(file, name, (count,), "f8", external=[(str(home / "numbers"), 0, count * 8)])


def as_secret(file, name, home, shape, kind):
    in_file(file, name, shape, kind, external=[(str(home / "secret"), 0, 29)])


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


def as_attribute(file, name):
    file.attrs[name] = file[name][()]
    del file[name]


def nested(file, name, depth=3000):
    group = file[name]
    for _ in range(depth):
        group = group.create_group("g")


DATA, ATTRIBUTES, V, BYTES = "features/states/data", "features/states/attributes", "table/V", "table/name/bytes"
HDF5 = {
    "external storage": lambda f, home: as_external(f, V, home),
    "external storage of names": lambda f, home: as_secret(f, BYTES, home, (29,), "u1"),
    "external storage of attributes": lambda f, home: as_secret(f, "attributes", home, (), "S29"),
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
    "an attribute and no dataset": lambda f, home: as_attribute(f, "attributes"),
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
    "2**40 rows without an index": lambda f, home: low_level(f, DATA, (1 << 40, 5), (1 << 24, 5)),
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


@pytest.mark.parametrize(
    "name",
    [b"..", b".", b"../../x", b"/etc", b"\0", b"zarr.json", b".hidden", b"a\0b", b"\xff", "é".encode(), b"x" * 300],
)
def test_a_feature_whose_name_leads_elsewhere_is_refused(given, victim, name):
    stand_in = b"~" * len(name)
    with h5py.File(given / "toy.h5", "r+", libver="latest") as file:
        h5py.h5o.link(file["features/states"].id, file["features"].id, stand_in)
    content = (given / "toy.h5").read_bytes()
    (begin, end), *others = (block for block in metadata_blocks(content) if stand_in in content[slice(*block)])
    assert not others
    place = content.index(stand_in, begin)
    content = content[:place] + name + content[place + len(name) :]
    (given / "toy.h5").write_bytes(with_checksum(content, begin, end))
    said = victim(given / "toy.h5")
    assert ("do not trust it" in said) == (name not in (b"a\0b", b"\xff", "é".encode(), b"x" * 300))


@pytest.mark.parametrize("size", [0, 1, 7, 8, 47, 48, 100, 5000])
def test_a_file_that_ends_early(given, victim, size):
    content = (given / "toy.h5").read_bytes()
    (given / "toy.h5").write_bytes(content[:size])
    victim(given / "toy.h5")


def test_hdf5_of_terabytes_that_says_so(given, victim):
    """With room for it in a file, of which the disk holds nothing."""
    with h5py.File(given / "toy.h5", "r+", libver="latest") as file:
        low_level(file, V, (1 << 41,), alloc=h5py.h5d.ALLOC_TIME_EARLY)
        low_level(file, "features/pitch/data", (1 << 40, 1), (1 << 10, 1), alloc=h5py.h5d.ALLOC_TIME_LATE)
        low_level(file, BYTES, (1 << 41,), alloc=h5py.h5d.ALLOC_TIME_EARLY)
        low_level(file, "attributes", (1 << 41,), alloc=h5py.h5d.ALLOC_TIME_EARLY)
    victim(given / "toy.h5")


def test_shards_of_gigabytes_of_which_the_disk_holds_nothing(given, victim):
    """The file says that they are written."""
    path = given / "hollow.h5"
    Toy().write(path, shards=(), dim=10_000_000)
    with h5py.File(given / "toy.h5") as whole, h5py.File(path, "r+", libver="latest") as file:
        manifest = json.loads(whole["features/states/manifest"][()])
        manifest["plan"] = {}
        file["features/states/manifest"] = np.array(json.dumps(manifest).encode())
    said = victim(path)
    assert "of them: do not trust it" in said


def test_a_file_with_many_features_is_listed(given, victim):
    with h5py.File(given / "toy.h5", "r+", libver="latest") as file:
        for number in range(3000):
            file.create_group(f"features/{number}")
    in_child(read_all, given / "toy.h5")
