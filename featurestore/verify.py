"""Does a store still hold what was written: every shard's length and checksum, and the table's digest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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


def verify(store: Store, progress: Callable[[int], None] = lambda _: None) -> list[Damage]:
    """Return all damage; ``progress`` is told the bytes of each file that has been read."""
    found = []
    attributes = read_json(store.path / "zarr.json")["attributes"]
    if table_digest(store.utterances) != attributes["table_sha256"]:
        found.append(Damage(store.path / "table", "the table is not the one that was planned", []))
    jobs = [job for part in store.parts.values() for job in _jobs(part, store)]

    def check(job: tuple[Path, dict[str, int], list[str]]) -> Damage | None:
        file, record, names = job
        problem = check_file(file, record)
        progress(record["bytes"])
        return Damage(file, problem, names) if problem else None

    with ThreadPoolExecutor() as pool:
        found += [damage for damage in pool.map(check, jobs) if damage]
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


def _jobs(part: FeatureStore, store: Store) -> Iterator[tuple[Path, dict[str, Any], list[str]]]:
    for number, record in part.records.items():
        names = store.utterances.index[store.utterances["shard"] == number].tolist()
        for array, file in part.shard_files(number).items():
            yield file, record["files"][array], names
