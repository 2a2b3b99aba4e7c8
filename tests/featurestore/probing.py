"""Reading everything of a store that nobody vouches for, in every way, within limits."""

from __future__ import annotations

import contextlib
import faulthandler
import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["ARROW_DEFAULT_MEMORY_POOL"] = "system"  # the others take a GB at once, and use none of it

import numpy as np

import featurestore
import featurestore.access.batches
import featurestore.format.packing
from featurestore import cli
from featurestore.access.statistics import corpus_statistics
from featurestore.access.store import Store
from featurestore.format import zarr
from featurestore.operations.verify import verify, verify_utterance
from featurestore.shared.errors import StoreError
from tests.featurestore.toy import Toy
from tests.processes import FRESH, begin_with, ensure_server, limit_memory

ANSWERS = (StoreError, OSError)
"""The errors in which reading may end."""
MEMORY = 1 << 30
"""Bytes that reading a small store may take."""
SECONDS = 30
begin_with("tests.featurestore.warm")
COMMANDS = (
    "info STORE",
    "list STORE",
    "show STORE a1",
    "verify STORE",
    "verify STORE a1",
    "export STORE OUT --table OUT.csv",
    "convert STORE OUT.zarr --dtype float32",
    "add-labels STORE LABELS",
    "repair STORE",
    "repair STORE --drop pitch",
)
MOST = 12
"""Utterances and features that are read one by one."""


class Readings:
    """What was read, as far as it could be.

    Attributes:
        values: by what was read.
        refused: the error instead.
    """

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.refused: dict[str, Exception] = {}

    def take(self, key: str, read: Callable[[], Any]) -> Any:
        """Read, and keep what comes; what is raised must be one of `ANSWERS`, in one line."""
        try:
            found = self.values[key] = read()
        except ANSWERS as error:
            self.refused[key] = error
            return None
        return found


def read_all(path: Path) -> Readings:
    """Return what every way of reading gives."""
    got = Readings()
    got.take("finished", lambda: list(featurestore.open(path).features))
    store = got.take("open", lambda: featurestore.open(path, partial=True))
    got.values.pop("open", None)
    if store is None:
        return got
    for what in ("dataset", "ranges", "left_out", "features"):
        got.take(what, lambda what=what: getattr(store, what))
    got.take("table", lambda: as_plain(store.utterances))
    names = (got.take("names", lambda: list(store.index.names)) or ["a1"])[:MOST]
    got.take("labels", lambda: str(store[names[-1]].labels.to_dict()))
    for feature in (got.take("planned", store.backend.features) or [])[:MOST]:
        _read_feature(got, store, feature, names)
    return got


def _read_feature(got: Readings, store: Store, feature: str, names: list[str]) -> None:
    part, key = got.take("part", lambda: store.feature(feature)), f"{feature}: "
    got.values.pop("part", None)
    there = (got.take(f"{key}there", lambda: store.names([feature])) or [])[:MOST]
    if part is None:
        return
    for name in names:
        got.take(f"{key}{name} times", lambda name=name: part.times(name).tobytes())
        got.take(f"{key}{name}", lambda name=name: store[name][feature].tobytes())
    for what in ("size", "complete", "spec"):
        got.take(key + what, lambda what=what: getattr(part, what))
    got.take(f"{key}failed", lambda: sorted(part.failed))  # the reasons have no checksum, nor have the flags
    got.take(f"{key}flagged", lambda: bool(str(part.flagged)))
    if there:
        got.take(f"{key}layers", lambda: store[there[-1]][feature, -1].tobytes())
    got.take(f"{key}pooled", lambda: np.stack(part.pooled(there or names)).tobytes())
    for how in ({}, {"copy": False}, {"cached": False, "layers": {feature: slice(0, 1)}}):
        got.take(f"{key}batches {how}", lambda how=how: _batches(store, there, feature, how))
    got.take(f"{key}dask", lambda: store.to_dask(feature, there).compute(scheduler="sync").tobytes())
    got.take(f"{key}statistics", lambda: np.stack(corpus_statistics(part, there)).tobytes())


def _batches(store: Store, names: list[str], feature: str, how: dict[str, Any]) -> dict[str, bytes]:
    batches = store.batches(names, [feature], utterances=4, threads=1, **how)
    return {
        n: f.decode().tobytes() for batch in batches for n, f in zip(batch.names, batch.frames[feature], strict=True)
    }


def damages(path: Path) -> list[str]:
    """Return what ``verify`` finds, of all and of single utterances; what it refuses to say, too."""
    got = Readings()
    store = got.take("open", lambda: featurestore.open(path, partial=True))
    if store is not None:
        found = got.take("verify", lambda: verify(store)) or []
        for name in (got.take("names", lambda: list(store.index.names)) or ["a1"])[:2]:
            found += got.take(f"verify {name}", lambda name=name: verify_utterance(store, name)) or []
        return [*(damage.problem for damage in found), *map(str, got.refused.values())]
    return list(map(str, got.refused.values()))


def as_plain(table: Any) -> dict[str, Any]:
    """Return the columns of a table as bytes and texts, and their kinds."""
    return {
        "name": list(table.index),
        **{
            c: (str(v.dtype), v.tolist() if v.dtype.kind not in "fib" else v.to_numpy().tobytes())
            for c, v in table.items()
        },
    }


def in_child(work: Callable[..., Any], *arguments: Any, seconds: int = SECONDS) -> str:
    """Return what ``work`` prints in a process of its own, which may take so many seconds, and `MEMORY`.

    Raises:
        AssertionError: with the output, if it ended in an error that nobody caught, in a signal, or not at all.
    """
    ensure_server()
    reader, writer = FRESH.Pipe(duplex=False)
    child = FRESH.Process(target=_child, args=(work, arguments, writer, seconds))
    child.start()
    writer.close()
    with open(reader.fileno(), "rb", closefd=False) as pipe:
        said = pipe.read().decode(errors="replace")
    child.join()
    assert child.exitcode == 0, f"{work.__name__} of {arguments} ended with {child.exitcode}:\n{said}"
    return said


def _child(work: Callable[..., Any], arguments: tuple[Any, ...], writer: Any, seconds: int) -> None:
    os.dup2(writer.fileno(), 1)
    os.dup2(writer.fileno(), 2)
    faulthandler.enable(2)
    faulthandler.dump_traceback_later(seconds, exit=True, file=2)
    os.fsync = lambda _: None  # what is tested here is not what survives a power cut
    zarr.PATIENCE = (0.0,)  # nobody else changes the store
    limit_memory(MEMORY)
    work(*arguments)


def read_many(folder: Path) -> None:
    """Read all stores of a folder, and print what was refused."""
    for path in sorted(folder.iterdir()):
        if path.suffix in (".zarr", ".h5"):
            print(path.name, flush=True)
            print(read_all(path).refused)


def frames_of(store: Store, name: str) -> Any:
    """Return the states of an utterance."""
    return store[name]["states"]


def use(path: Path, out: Path, labels: Path) -> None:
    """Do everything with a store that a user would do, and print how each ended; only ``out`` and it may change.

    Raises:
        AssertionError: if a command prints more than one line of error.
    """
    print(damages(path), read_all(path).refused)
    for number, words in enumerate(COMMANDS):
        known = {"STORE": path, "LABELS": labels, "OUT": out / str(number)}
        arguments = [str(known.get(word, word)).replace("OUT", str(known["OUT"])) for word in words.split()]
        code, said, errors = command(*arguments)
        print(words, code, said, errors, sep="\n")
        assert code in (0, 1, 3), words
        assert len(errors.splitlines()) <= 1, errors
    print(Readings().take("write", lambda: Toy().write(path)))


def command(*arguments: object) -> tuple[int, str, str]:
    """Run ``ser-store`` in this process; return its exit code and what it prints."""
    output, errors = io.StringIO(), io.StringIO()
    sys.argv = ["ser-store", *map(str, arguments)]
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        try:
            cli.main()
        except SystemExit as end:
            return int(end.code or 0), output.getvalue(), errors.getvalue()
    raise AssertionError("it did not end")
