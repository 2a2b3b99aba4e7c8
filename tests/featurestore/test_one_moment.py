"""A reader sees the labels of one moment, however often others change them meanwhile."""

import sys
import time

import pytest

import featurestore
from featurestore.access.writer import StoreWriter
from featurestore.format import zarr
from featurestore.format.opening import open_backend_to_write
from featurestore.shared.errors import StoreError
from tests.processes import Command

COLUMNS = [f"label {i}" for i in range(40)]
relabel = Command("featurestore", "tests.featurestore.test_one_moment")


def main():
    """Change all labels of a store again and again, in a process of its own."""
    writer = StoreWriter(sys.argv[1])
    for version in range(8):
        with writer.change_at_once():
            writer.replace_table(writer.table.assign(**dict.fromkeys(COLUMNS, float(version))))
        time.sleep(0.02)


def test_labels_are_of_one_moment_while_they_are_replaced(toy, tmp_path, suffix):
    path = toy.write(tmp_path / f"toy{suffix}")
    writer = StoreWriter(path)
    with writer.change_at_once():
        writer.replace_table(writer.table.assign(**dict.fromkeys(COLUMNS, -1.0)))
    seen, running = set(), relabel.start(path)
    while not running.ended():
        try:
            table = featurestore.open(path).utterances
        except StoreError as error:
            if "is being changed" in str(error):  # opened in the middle of a change, which the reader is told
                continue
            raise
        values = {value for column in COLUMNS for value in table[column]}
        assert len(values) == 1
        seen |= values
    assert running.wait().returncode == 0
    assert len(seen) > 2


def test_a_store_that_stays_in_the_middle_of_a_change_is_not_read(toy, tmp_path, monkeypatch):
    path = toy.write(tmp_path / "toy.zarr")
    store = featurestore.open(path)
    (path / ".change").mkdir()
    monkeypatch.setattr(zarr, "PATIENCE", (0.0,))
    with pytest.raises(StoreError, match="is being changed, or a change was interrupted: run ser-store repair"):
        len(store.utterances)
    (path / ".change").rmdir()
    assert len(store.utterances) == 9


def test_what_is_damaged_is_not_waited_for(toy, tmp_path, monkeypatch):
    path = toy.write(tmp_path / "toy.zarr")
    store = featurestore.open(path)
    (path / "table/V/c/0").write_bytes(b"short")
    monkeypatch.setattr(zarr.time, "sleep", lambda _: pytest.fail("waited"))
    with pytest.raises(StoreError, match="holds 5 bytes, expected 72"):
        len(store.utterances)


def test_a_draft_is_of_one_moment_too(toy, tmp_path):
    path = toy.write(tmp_path / "toy.h5")
    backend = open_backend_to_write(path)
    with backend.change() as change:
        change.array("table/V", featurestore.open(path).backend.array("table/V") * 0, "utterance")
    assert featurestore.open(path, partial=True).utterances["V"].tolist() == [0.0] * 9
    assert featurestore.open(path).utterances["V"].min() > 0
