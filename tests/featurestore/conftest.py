"""The toy store with either backend."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import featurestore
from tests.featurestore.strangers import given, home, stores, victim
from tests.featurestore.toy import DTYPES, SUFFIXES, Toy
from tests.processes import Command

SER_STORE = Command("featurestore")


@pytest.fixture(scope="session")
def toy() -> Toy:
    return Toy()


@pytest.fixture(scope="session", params=SUFFIXES)
def suffix(request: pytest.FixtureRequest) -> str:
    """The suffix of a store, which chooses its backend: every test that uses it runs on both."""
    return str(request.param)


@pytest.fixture(scope="session")
def written(toy: Toy, suffix: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete store that no test may change: ``states``, ``pitch``, and the states in every data type."""
    path = toy.write(tmp_path_factory.mktemp("written") / f"toy{suffix}", features=("states", "pitch"))
    for dtype in DTYPES:
        toy.write(path, dtype, features=(dtype,))
    return path


@pytest.fixture
def copied(written: Path, tmp_path: Path) -> Path:
    """A complete store that the test may damage."""
    copy = shutil.copytree if written.is_dir() else shutil.copy
    return Path(copy(written, tmp_path / written.name))


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """The environment in which another process imports the same featurestore."""
    return {**os.environ, "PYTHONPATH": str(Path(featurestore.__file__).parents[1])}


@pytest.fixture(scope="session")
def tree() -> Callable[[Path], dict[str, bytes]]:
    """The bytes of every file of a store, by relative path."""

    def read(path: Path) -> dict[str, bytes]:
        files = (file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
        return {file.relative_to(path).as_posix(): file.read_bytes() for file in files}

    return read


@pytest.fixture(scope="session")
def ser_store() -> Command:
    """The command ser-store, in a process of its own."""
    return SER_STORE


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no right to mount a file system")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)
