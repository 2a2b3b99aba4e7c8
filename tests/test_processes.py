"""A command whose process begins with everything imported does what it does where a user gives it."""

import signal

import pytest

from tests.extract.samples import ser_extract
from tests.featurestore.toy import Toy
from tests.processes import Command

ser_store, ser_train = Command("featurestore"), Command("train")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The folder in which commands are given, with a store and a dataset."""
    Toy().write(tmp_path / "toy.zarr", features=("states", "pitch"))
    (tmp_path / "labels.csv").write_text("name,mood\na1,good\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (ser_store, "--help"),
        (ser_store, "info toy.zarr"),
        (ser_store, "export toy.zarr out"),
        (ser_store, "info nowhere.zarr"),
        (ser_store, "inof"),
        (ser_extract, "--list encoder"),
        (ser_extract, "--dataset emodb --features pich"),
        (ser_train, "--store toy.zarr splits.k=3"),
        (ser_train, "--list splits.kfold"),
    ],
)
def test_it_prints_and_returns_the_same(here, command, words):
    assert command(*words.split()) == command.anew(*words.split())


def test_it_has_the_environment_that_it_is_given(here):
    wide, narrow = (ser_store("--help", env={"COLUMNS": columns}) for columns in ("100", "60"))
    assert max(map(len, narrow.stdout.splitlines())) <= 60 < max(map(len, wide.stdout.splitlines()))
    assert narrow == ser_store.anew("--help", env={"COLUMNS": "60"})


def test_an_error_that_nobody_caught_is_a_traceback(here):
    found, expected = (run("info", "nowhere.zarr", "--debug") for run in (ser_store, ser_store.anew))
    assert (found.returncode, found.stdout) == (expected.returncode, expected.stdout) == (1, "")
    for said in (found.stderr, expected.stderr):
        first, *_, last = said.splitlines()
        assert first == "Traceback (most recent call last):"
        assert last == expected.stderr.splitlines()[-1]


def test_it_can_be_killed_and_limited(here):
    running = ser_store.start("info", "toy.zarr")
    running.send(signal.SIGKILL)
    assert running.wait().returncode == -signal.SIGKILL
    limited = ser_store("export", "toy.zarr", "out", FSIZE=100)
    assert (limited.returncode, len(limited.stderr.splitlines())) == (1, 1)
    assert "File too large" in limited.stderr
    assert ser_store("export", "toy.zarr", "out").returncode == 3  # the limit was of that process


def test_none_knows_of_another(here):
    assert ser_store("add-labels", "toy.zarr", "labels.csv").returncode == 0
    first, second = (ser_store("info", "toy.zarr") for _ in range(2))
    assert first == second == ser_store.anew("info", "toy.zarr")
