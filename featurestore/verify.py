"""Does a store still hold what was written; and dropping what it does not, so that it can be made again."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import google_crc32c
import numpy as np

from featurestore.errors import StoreError
from featurestore.feature import FeatureStore
from featurestore.layout import plan_checksums
from featurestore.store import Store
from featurestore.table import table_digest
from featurestore.writer import StoreWriter

PIECE = 1 << 24
DAMAGED = (StoreError, OSError, KeyError, ValueError, RuntimeError)
"""What reading damaged metadata can raise: ours, and those of the libraries that read it."""


@dataclass(frozen=True)
class Damage:
    """A part of a store that is not what was written.

    Attributes:
        place: the file, and the part of it.
        problem: what was found and what was expected.
        names: the utterances whose frames are in it; none where it concerns all.
        feature: that it belongs to; None for the table.
        shard: that it belongs to; None for the table, and for the plan of a feature.
    """

    place: str
    problem: str
    names: list[str]
    feature: str | None = None
    shard: int | None = None


def verify(store: Store, report: Callable[[float, float], None] = lambda *_: None) -> list[Damage]:
    """Return all damage; ``report`` is told the bytes that have been read, and of how many."""
    try:
        changed = table_digest(store.utterances) != store.table_sha256
    except DAMAGED as error:
        return [Damage(f"{store.path}: table", str(error), [])]  # nothing else can be found without it
    found = [Damage(f"{store.path}: table", "it is not the table that was written", [])] if changed else []
    jobs: list[_Job] = []
    for name in store.form.features():
        try:
            part = FeatureStore(store.form, name, store.index)
            _check_plan(part)
            jobs += _jobs(part, store, list(part.layouts))
        except DAMAGED as error:
            found.append(Damage(f"{store.path}: plan of {name}", str(error), [], name))
    read, total = 0, sum(job.record["bytes"] for job in jobs)
    with ThreadPoolExecutor() as pool:
        for job, problem in zip(jobs, pool.map(lambda job: _check(job, store), jobs), strict=True):
            read += job.record["bytes"]
            report(read, total)
            if problem:
                names = job.part.names_in(job.shard)
                found.append(Damage(store.form.files.place(job.path), problem, names, job.part.name, job.shard))
    return found


def verify_utterance(store: Store, name: str) -> list[Damage]:
    """Return the damage of one utterance's frames, scales and statistics; reads no other frames."""
    found = []
    for part in store.parts.values():
        if name in part.failed:
            continue
        block = part.block(name)
        shard = int(store.index.shard[store.index[name]])
        rank = part.names_in(shard).index(name)
        expected = int(part.records[shard]["utterances"][8 * rank : 8 * rank + 8], 16)
        place = f"{store.path}: {part.name} of {name}"
        try:
            checksum = block.checksum()
        except StoreError as error:
            found.append(Damage(place, str(error), [name], part.name, shard))
            continue
        if checksum != expected:
            problem = f"its checksum is {checksum:08x}, expected {expected:08x}"
            found.append(Damage(place, problem, [name], part.name, shard))
        for job in _jobs(part, store, [array for array in part.layouts if array != "data"], shard):
            trouble = _check(job, store)
            if trouble:
                found.append(Damage(store.form.files.place(job.path), trouble, [name], part.name, shard))
    return found


def repair(path: str, report: Callable[[float, float], None] = lambda *_: None) -> list[Damage]:
    """Finish an interrupted change, and drop every shard that is damaged, so that extraction makes it again.

    Returns:
        What was dropped.

    Raises:
        StoreError: if the table is damaged: then there is nothing to stand on.
    """
    writer = StoreWriter(path)
    if not (writer.form.exists() or writer.form.interrupted()):
        raise StoreError(f"no store at {path}; ser-extract makes one")
    with writer.lock():
        store = Store(path, partial=True)
        damages = verify(store, report)
        for damage in damages:
            if damage.feature is None:
                raise StoreError(f"{damage.place}: {damage.problem}; this cannot be repaired: extract into a new store")
        for feature in dict.fromkeys(damage.feature for damage in damages if damage.feature):
            shards = {damage.shard for damage in damages if damage.feature == feature}
            writer.drop(feature, None if None in shards else {shard for shard in shards if shard is not None})
    return damages


class _Job(NamedTuple):
    part: FeatureStore
    shard: int
    path: str
    begin: int
    record: dict[str, int]


def _check_plan(part: FeatureStore) -> None:
    found = plan_checksums(part.planned)
    expected = part.manifest["plan"] or found
    changed = [array for array in found if found[array] != expected[array]]
    if changed:
        raise StoreError(f"{', '.join(changed)} not as written")


def _jobs(part: FeatureStore, store: Store, arrays: list[str], shard: int | None = None) -> list[_Job]:
    return [
        _Job(part, number, *store.form.shard_place(part.name, array, number), record["files"][array])
        for number, record in part.records.items()
        if shard in (None, number)
        for array in arrays
    ]


def _check(job: _Job, store: Store) -> str | None:
    """Return what is wrong with a shard that should have the ``bytes`` and ``crc32c`` of its record."""
    size = job.record["bytes"]
    try:
        ranges = store.form.files.ranges(job.path)
    except StoreError:
        return "the file is missing"
    if job.begin + size > ranges.size or (job.begin == 0 and size != ranges.size):  # at 0: a file of its own
        return f"it has {ranges.size} bytes, expected {job.begin + size}"
    crc, buffer = 0, np.empty(min(PIECE, size), np.uint8)
    for offset in range(0, size, PIECE):
        piece = buffer[: min(PIECE, size - offset)]
        ranges.read_into(piece, job.begin + offset)
        crc = google_crc32c.extend(crc, piece)
    return None if crc == job.record["crc32c"] else f"its checksum is {crc:08x}, expected {job.record['crc32c']:08x}"
