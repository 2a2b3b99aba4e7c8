"""Check that a store still holds what was written."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

import google_crc32c
import numpy as np

from featurestore.access.feature import FeatureStore
from featurestore.access.store import Store
from featurestore.format.files import Files
from featurestore.format.layout import check_plan
from featurestore.format.table import table_digest
from featurestore.shared.errors import MALFORMED, StoreError

PIECE = 1 << 24
NO_CHECKSUM = "00000000"
TROUBLE = (StoreError, *MALFORMED, OSError)
"""Errors in reading a damaged store; an OSError tells nothing about the content."""


@dataclass(frozen=True)
class Damage:
    """A part of a store that is not as it was written.

    Attributes:
        place: the file, and the part of it.
        problem: what was found and what was expected.
        names: the utterances whose frames are in it; empty if it concerns all.
        feature: to which it belongs; None for the table.
        shard: to which it belongs; None for the table, and for the plan of a feature.
        unreadable: whether it could not be read, so that its content is unknown.
    """

    place: str
    problem: str
    names: list[str]
    feature: str | None = None
    shard: int | None = None
    unreadable: bool = False


def verify(store: Store, report: Callable[[float, float], None] = lambda *_: None) -> list[Damage]:
    """Return all damage; ``report`` is told how many bytes have been read, and of how many.

    Raises:
        OSError: if the table cannot be read.
    """
    try:
        changed = table_digest(store.utterances) != store.table_sha256
    except (StoreError, *MALFORMED) as error:
        return [Damage(f"{store.path}: table", str(error), [])]  # nothing else can be found without it
    found = [Damage(f"{store.path}: table", "it is not as it was written", [])] if changed else []
    if not store.sealed:
        found.append(Damage(f"{store.path}: attributes", "they are not as they were written", []))
    jobs: list[_Job] = []
    for name in store.backend.features():
        try:
            feature = FeatureStore(store.backend, name, store.index)
            check_plan(feature.checksums, feature.manifest["plan"], name)
            jobs += _jobs(feature, list(feature.layouts))
            found += _odd_failures(feature)
        except TROUBLE as error:
            unreadable = isinstance(error, OSError)
            found.append(Damage(f"{store.path}: plan of {name}", str(error), [], name, unreadable=unreadable))
    read, total = 0, sum(job.size for job in jobs)
    with ThreadPoolExecutor() as pool:
        for job, damage in zip(jobs, pool.map(_check, jobs), strict=True):
            read += job.size
            report(read, total)
            if damage:
                found.append(damage)
    return found


def _odd_failures(feature: FeatureStore) -> list[Damage]:
    """Return the shards whose failures do not match their checksums: that of a failed utterance is zero."""
    found = []
    for shard, record in feature.records.items():
        names, checksums = feature.names_in(shard), record["utterances"]
        without = {name for rank, name in enumerate(names) if checksums[8 * rank : 8 * rank + 8] == NO_CHECKSUM}
        odd = without ^ set(record["failed"])
        odd -= {name for name in odd & without & set(names) if _has_no_bits(feature, name)}
        if odd:
            problem = "the utterances that have failed are not those without a checksum"
            found.append(Damage(f"{feature.backend.path}: {feature.name}", problem, sorted(odd), feature.name, shard))
    return found


def _has_no_bits(feature: FeatureStore, name: str) -> bool:
    """Return whether the checksum of an utterance that has frames is zero by chance."""
    try:
        return feature.block(name).checksum() == 0
    except StoreError:
        return False


def verify_utterance(store: Store, name: str) -> list[Damage]:
    """Return the damage of one utterance's frames, scales and statistics; reads no other frames."""
    found = []
    for feature in store.backend.features():
        try:
            found += damages_of(FeatureStore(store.backend, feature, store.index), name)
        except TROUBLE as error:
            place, unreadable = f"{store.path}: {feature} of {name}", isinstance(error, OSError)
            shard = int(store.index.shard[store.index[name]])
            found.append(Damage(place, str(error), [name], feature, shard, unreadable))
    return found


def damages_of(feature: FeatureStore, name: str) -> list[Damage]:
    """Return the damage of one utterance of a feature; none if the utterance has failed.

    Raises:
        StoreError: if the plan or the shard cannot be trusted at all.
        OSError: if the frames cannot be read.
    """
    if name in feature.failed:
        return []
    shard, rank = feature.shard_of(name)
    expected = int(feature.records[shard]["utterances"][8 * rank : 8 * rank + 8], 16)
    checksum = feature.block(name).checksum()
    found = [replace(damage, names=[name]) for damage in _damages_beside_frames(feature, shard)]
    if checksum != expected:
        problem = f"its checksum is {checksum:08x}, expected {expected:08x}"
        found.append(Damage(f"{feature.backend.path}: {feature.name} of {name}", problem, [name], feature.name, shard))
    return found


def problem_of(feature: FeatureStore, name: str) -> str:
    """Return what is damaged of one utterance of a feature; empty if nothing is.

    Raises:
        OSError: if it cannot be read, which tells nothing about its content.
    """
    try:
        damages = damages_of(feature, name)
    except StoreError as error:
        return str(error)
    for damage in damages:
        if damage.unreadable:
            raise OSError(f"{damage.place}: {damage.problem}")
    return "; ".join(damage.problem for damage in damages)


@lru_cache(maxsize=8)
def _damages_beside_frames(feature: FeatureStore, shard: int) -> list[Damage]:
    """Return the damage of the scales and statistics of a shard, which have one checksum for all its utterances."""
    jobs = _jobs(feature, [array for array in feature.layouts if array != "data"], shard)
    return [damage for job in jobs if (damage := _check(job))]


class _Job(NamedTuple):
    feature: FeatureStore
    array: str
    shard: int
    files: Files
    path: str
    begin: int
    size: int
    checksum: int


def _jobs(feature: FeatureStore, arrays: list[str], shard: int | None = None) -> list[_Job]:
    jobs = []
    for number, record in feature.records.items():
        for array in arrays if shard in (None, number) else ():
            files, path, begin = feature.backend.shard_file(feature.name, array, number)
            file = record["files"][array]
            jobs.append(_Job(feature, array, number, files, path, begin, int(file["bytes"]), int(file["crc32c"])))
    return jobs


def _check(job: _Job) -> Damage | None:
    """Return what is wrong with an array of a shard."""
    try:
        problem, unreadable = _problem(job), False
    except OSError as error:
        problem, unreadable = f"it cannot be read: {error}", True
    if problem is None:
        return None
    place, names = job.files.place(job.path), job.feature.names_in(job.shard)
    return Damage(place, problem, names, job.feature.name, job.shard, unreadable)


def _problem(job: _Job) -> str | None:
    try:
        file = job.files.open(job.path)
    except StoreError as error:
        return str(error)
    if job.begin + job.size > file.size or (job.begin == 0 and job.size != file.size):  # at 0: a file of its own
        return f"it has {file.size} bytes, expected {job.begin + job.size}"
    try:
        file.check(job.begin, job.size)
    except StoreError as error:
        return str(error)
    crc, buffer = 0, np.empty(min(PIECE, job.size), np.uint8)
    for offset in range(0, job.size, PIECE):
        piece = buffer[: min(PIECE, job.size - offset)]
        file.read_into(piece, job.begin + offset)
        crc = google_crc32c.extend(crc, piece)
    if crc != job.checksum:
        return f"its checksum is {crc:08x}, expected {job.checksum:08x}"
    if job.shard == next(iter(job.feature.records)):  # the layout of all shards is the same
        try:
            job.feature.reader(job.array, job.shard)
        except StoreError as error:
            return str(error)
    return None
