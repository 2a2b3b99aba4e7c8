"""Does a store still hold what was written: every shard's length and checksum, and the table's digest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import google_crc32c

from featurestore.store import FeatureStore, Store
from featurestore.table import table_digest
from featurestore.zarr3 import read_json

PIECE = 1 << 24


@dataclass(frozen=True)
class Damage:
    """A file that is not what was written.

    Attributes:
        file: its path.
        problem: what was found and what was expected.
        names: the utterances whose frames are in it.
    """

    file: Path
    problem: str
    names: list[str]


def verify(store: Store, report: Callable[[float, float], None] = lambda *_: None) -> list[Damage]:
    """Return all damage; ``report`` is told the bytes that have been read, and of how many."""
    found = []
    attributes = read_json(store.path / "zarr.json")["attributes"]
    if table_digest(store.utterances) != attributes["table_sha256"]:
        found.append(Damage(store.path / "table", "the table is not the one that was planned", []))
    jobs = [job for part in store.parts.values() for job in _jobs(part, store)]

    read, total = 0, sum(part.size for part in store.parts.values())
    with ThreadPoolExecutor() as pool:
        problems = pool.map(lambda job: check_file(job.file, job.record), jobs)
        for job, problem in zip(jobs, problems, strict=True):
            read += job.record["bytes"]
            report(read, total)
            if problem:
                found.append(Damage(job.file, problem, job.names))
    return found


def check_file(file: Path, record: dict[str, int]) -> str | None:
    """Return what is wrong with a file that should have the ``bytes`` and ``crc32c`` of its record."""
    if not file.exists():
        return "the file is missing"
    if file.stat().st_size != record["bytes"]:
        return f"it has {file.stat().st_size} bytes, expected {record['bytes']}"
    crc = 0
    with file.open("rb") as handle:
        while piece := handle.read(PIECE):
            crc = google_crc32c.extend(crc, piece)
    if crc != record["crc32c"]:
        return f"its checksum is {crc:08x}, expected {record['crc32c']:08x}"
    return None


class _Job(NamedTuple):
    file: Path
    record: dict[str, int]
    names: list[str]


def _jobs(part: FeatureStore, store: Store) -> Iterator[_Job]:
    for number, record in part.records.items():
        names = store.utterances.index[store.utterances["shard"] == number].tolist()
        for array, file in part.shard_files(number).items():
            yield _Job(file, record["files"][array], names)
