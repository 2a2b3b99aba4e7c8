"""Stores that a stranger has sent, and files of the victim's own."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.featurestore.probing import in_child, use
from tests.featurestore.toy import Toy

SECRET = b"what nobody else may see 4711"
PRIVATE = np.full(9, 4711.5)


@pytest.fixture(scope="session")
def stores(tmp_path_factory):
    """Stores of both backends, and one with compressed frames."""
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
        written = [
            path for folder in (out, given) for path in folder.rglob("*") if path.is_file() and not path.is_symlink()
        ]
        for content in (said.encode(), *(path.read_bytes() for path in written if path.stat().st_size < 1 << 24)):
            assert SECRET not in content
            assert b"4711.5" not in content
            assert PRIVATE.tobytes() not in content
        return said

    return try_all


def whole_tree(folder):
    return {path: path.read_bytes() if path.is_file() else path.is_dir() for path in sorted(folder.rglob("*"))}


def in_file(file, name, *arguments, **settings):
    """Put another dataset in the place of one."""
    del file[name]
    return file.create_dataset(name, *arguments, **settings)
