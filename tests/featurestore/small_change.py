"""Makes a small change to copies of a store, each ended at another instant or by another limit, and checks each copy.

Its arguments are the store and kill, size or room. It prints for each ``before``, ``after`` or what is wrong, with the
exit status of the process and what it said.
"""

from __future__ import annotations

import os
import resource
import shutil
import sys
from pathlib import Path

import numpy as np

import featurestore
from featurestore.access.writer import StoreWriter
from featurestore.operations.repair import repair
from featurestore.operations.verify import verify
from featurestore.shared.errors import StoreError
from tests.featurestore.sudden_death import kill_after
from tests.featurestore.toy import Toy

NEW = ["label", "note"]


def change(path: Path, kind: str, limit: int) -> tuple[int, str]:
    """Make the change in another process, and return its exit status, that of a signal below 0, and what it said."""
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        writer = StoreWriter(path)
        table = writer.table.assign(**dict.fromkeys(NEW, "x" * 600))
        if kind == "size":
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        elif kind == "kill":
            kill_after(limit)
        try:
            with writer.change_at_once():
                writer.replace_table(table)
        except (StoreError, OSError) as error:
            os.write(writing, str(error).encode())
            os._exit(1)
        os._exit(0)
    os.close(writing)
    with open(reading) as said:
        message = said.read()
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), message


def check(path: Path, before: Path, toy: Toy) -> str:
    """Return whether a store is that of before, or that of after."""
    store, old = featurestore.open(path), featurestore.open(before)
    if verify(store) or any(not np.array_equal(store[n]["states"], old[n]["states"]) for n in toy.readable):
        return "damaged"
    columns = list(store.utterances)
    return {0: "before", len(NEW): "after"}.get(len(set(columns) - set(old.utterances)), f"mixed: {columns}")


def main() -> None:
    store, kind, toy, limit = Path(sys.argv[1]), sys.argv[2], Toy(), 0
    while True:
        limit += 1 if kind == "kill" else 4096
        copy = store.parent / f"{kind} {limit}" / store.name
        copy.parent.mkdir()
        (shutil.copytree if store.is_dir() else shutil.copy)(store, copy)
        filler = store.parent / "filler"
        filler.write_bytes(bytes(shutil.disk_usage(store.parent).free - limit if kind == "room" else 0))
        status, message = change(copy, kind, limit)
        filler.unlink()
        if kind == "kill":
            repair(str(copy))
        beside = {file.name for file in copy.parent.iterdir()} - {f".{copy.name}.lock", copy.name}
        print(limit, status, check(copy, store, toy), len(beside), message.replace("\n", "\\n"), sep="\t")
        shutil.rmtree(copy.parent)
        if status == 0:
            return
