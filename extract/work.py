"""The work on one shard: decode its audio, compute the features that are missing, write them.

It depends on the plan alone, so it gives the same bytes wherever and however often it is done. Only the last bits of
an encoder's sums may differ: on another kind of processor, or if memory does not suffice for a whole batch.
"""

from __future__ import annotations

import os
import socket
from collections import Counter, deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple, Self

from extract.audio import SAMPLING_RATE, AudioError, Recording, Wave, read_recording
from extract.features import Computed, Extractors, Stored
from extract.labels import readable
from featurestore.access.feature_shard import FeatureShard
from featurestore.access.writer import StoreWriter
from featurestore.shared.errors import SerError

READING, WRITING = "reading audio", "writing"
WRITE_AHEAD = 1
"""Utterances that may wait to be written while others are computed; each keeps its batch in memory."""
Recordings = dict[str, Recording | str]
"""The audio of a shard by name, or the reason why there is none."""
Spent = Counter[str]
"""Seconds for which a job waited for `READING`, each feature by its name, and `WRITING`."""


class Clip(NamedTuple):
    """One utterance: its name, its file, its planned length in seconds, and the columns that features need."""

    name: str
    path: Path
    seconds: float
    row: dict[str, Any]


@dataclass(frozen=True)
class Job:
    """The work on one shard.

    Attributes:
        number: of the shard.
        features: to compute.
        clips: the utterances of the shard, in the order of the table.
        failed: for each feature the utterances of which it cannot be computed, with the reason.
    """

    number: int
    features: tuple[str, ...]
    clips: list[Clip]
    failed: dict[str, dict[str, str]]

    def __str__(self) -> str:
        return f"shard {self.number} ({self.clips[0].name} to {self.clips[-1].name})"

    @property
    def seconds(self) -> float:
        """The audio in the shard, in seconds."""
        return sum(clip.seconds for clip in self.clips)

    def only(self, features: Sequence[str]) -> Self:
        """Return the job for these features alone."""
        return replace(self, features=tuple(key for key in self.features if key in features))


def do_job(job: Job, writer: StoreWriter, extractors: Extractors) -> Spent:
    """Do a job, and return where the time went."""
    spent: Spent = Counter()
    with _measured(spent, READING):
        recordings: Recordings = {clip.name: _try_read(clip) for clip in job.clips}
    return spent + _write(job, recordings, writer, extractors)


def do_jobs(jobs: Sequence[Job], writer: StoreWriter, extractors: Extractors) -> Generator[tuple[Job, Spent]]:
    """Do jobs one after another, decoding the audio of the next one meanwhile; yield each with `do_job`'s result."""
    with ThreadPoolExecutor() as pool:
        ahead: deque[dict[str, Future[Recording | str]]] = deque()
        for i, job in enumerate(jobs):
            ahead.extend({c.name: pool.submit(_try_read, c) for c in j.clips} for j in jobs[i + len(ahead) : i + 2])
            spent: Spent = Counter()
            with _measured(spent, READING):
                recordings: Recordings = {name: future.result() for name, future in ahead.popleft().items()}
            yield job, spent + _write(job, recordings, writer, extractors)


def _write(job: Job, recordings: Recordings, writer: StoreWriter, extractors: Extractors) -> Spent:
    rows = {clip.name: clip.row for clip in job.clips}
    spent: Spent = Counter()
    for key in job.features:
        good: dict[str, Wave] = {}
        with _named(key, job), writer.shard(key, job.number) as shard:
            for name, recording in recordings.items():
                reason = recording if isinstance(recording, str) else job.failed[key].get(name)
                if reason is None and not isinstance(recording, str):
                    good[name] = recording.wave
                    shard.flag(name, recording.remark)
                else:
                    shard.fail(name, str(reason))
            names = list(good)
            computed = extractors[key].compute_to_store(list(good.values()), [rows[name] for name in names])
            _write_behind(shard, names, key, computed, spent)
    return spent


def _write_behind(
    shard: FeatureShard, names: Sequence[str], key: str, computed: Iterator[Computed | Stored], spent: Spent
) -> None:
    """Write each utterance in another thread, while the next ones are computed."""

    def add(one: Computed | Stored) -> None:
        name = names[one.position]
        if isinstance(one, Stored):
            shard.put(name, one.frames, one.mean, one.sd)
        else:
            shard.flag(name, one.flag)
            shard.add(name, one.frames)

    with ThreadPoolExecutor(1) as pool:
        waiting: deque[Future[None]] = deque()
        while True:
            with _measured(spent, key):
                one = next(computed, None)
            with _measured(spent, WRITING):
                if one is not None:
                    waiting.append(pool.submit(add, one))
                while len(waiting) > (WRITE_AHEAD if one is not None else 0):
                    waiting.popleft().result()
            if one is None:
                return


@contextmanager
def _measured(spent: Spent, what: str) -> Iterator[None]:
    start = perf_counter()
    yield
    spent[what] += perf_counter() - start  # type: ignore[assignment]


@contextmanager
def _named(key: str, job: Job) -> Iterator[None]:
    """Add the feature and the shard to errors that users can mend."""
    try:
        yield
    except SerError as error:
        raise SerError(f"{key}, {job}: {error}") from error
    except OSError as error:  # mostly a full disk, for which HDF5 needs many words
        what = os.strerror(error.errno) if error.errno else " ".join(str(error).split())
        what += f" ({error.filename})" if error.filename else ""
        raise SerError(
            f"{key}, {job}: {what}; what is written stays: mend this, and run the same command again"
        ) from error


def _try_read(clip: Clip) -> Recording | str:
    if not os.path.exists(clip.path):
        raise SerError(
            f"{clip.path} existed when the extraction was planned, but {socket.gethostname()} does not find it"
        )
    try:
        recording = read_recording(clip.path)
    except AudioError as error:
        return readable(str(error))
    found, expected = len(recording.wave), round(clip.seconds * SAMPLING_RATE)
    return (
        recording
        if found == expected
        else f"the file has changed: found {found} samples, expected {expected} as planned"
    )
