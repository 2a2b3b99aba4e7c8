"""Does a store still hold what was written: every shard's length and checksum, and the table's digest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from featurestore.errors import StoreError
from featurestore.store import FeatureStore, Store
from featurestore.table import table_digest
from featurestore.zarr3 import checksum


@dataclass(frozen=True)
class Damage:
    """A file that is not what was written.

    Attributes:
        file: its path.
        problem: what was found and what was expected.
        names: the utterances whose frames are in it; none where it concerns all.
    """

    file: Path
    problem: str
    names: list[str]


def verify(store: Store, report: Callable[[float, float], None] = lambda *_: None) -> list[Damage]:
    """Return all damage; ``report`` is told the bytes that have been read, and of how many."""
    try:
        changed = table_digest(store.utterances) != store.table_sha256
    except StoreError as error:
        return [Damage(store.path / "table", str(error), [])]  # nothing else can be found without it
    found = [Damage(store.path / "table", "the table is not the one that was planned", [])] if changed else []
    jobs = [job for part in store.parts.values() for job in _jobs(part, store)]

    read, total = 0, sum(job.record["bytes"] for job in jobs)
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
    found = checksum(file)
    if found != record:
        return f"its checksum is {found['crc32c']:08x}, expected {record['crc32c']:08x}"
    return None


class _Job(NamedTuple):
    file: Path
    record: dict[str, int]
    names: list[str]


def _jobs(part: FeatureStore, store: Store) -> Iterator[_Job]:
    for array, planned in part.planned.items():
        yield _Job(part.folder / array / "c/0", planned, [])
    for number, record in part.records.items():
        names = store.utterances.index[store.utterances["shard"] == number].tolist()
        for array, file in part.shard_files(number).items():
            yield _Job(file, record["files"][array], names)
