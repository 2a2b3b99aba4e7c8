"""The work on one shard, and who does it: this process, or many of them with dask.distributed.

A job depends on nothing but the plan, so it gives the same bytes wherever it runs, and can be repeated.
"""

from __future__ import annotations

import json
import logging
import os
import socket
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import uuid4

from extract.audio import SAMPLING_RATE, AudioError, Wave, describe_oddity, read_wave
from extract.config import ExtractConfig
from extract.features import Feature
from featurestore.errors import SerError
from featurestore.writer import StoreWriter

if TYPE_CHECKING:
    from distributed import Client

WORTH_A_WORKER = 900.0
"""Seconds of audio for which the start of another process, some seconds, pays."""
CONNECT_SECONDS = 20
Waves = dict[str, Wave | str]
"""The waveforms of a shard by name, or why there is none."""


class Clip(NamedTuple):
    """One utterance: its name, its file, its planned length in seconds, and what features need of its row."""

    name: str
    path: Path
    seconds: float
    row: dict[str, Any]


@dataclass(frozen=True)
class Job:
    """What is to be written of one shard.

    Attributes:
        number: of the shard.
        features: that are missing.
        clips: in the order of the table.
        impossible: for each feature the utterances from which it cannot be computed, with the reason.
    """

    number: int
    features: tuple[str, ...]
    clips: list[Clip]
    impossible: dict[str, dict[str, str]]

    def __str__(self) -> str:
        return f"shard {self.number} ({self.clips[0].name} to {self.clips[-1].name})"

    @property
    def seconds(self) -> float:
        """Audio in the shard."""
        return sum(clip.seconds for clip in self.clips)


def run_jobs(
    config: ExtractConfig, jobs: Sequence[Job], writer: StoreWriter, features: dict[str, Feature]
) -> Iterator[Job]:
    """Do all jobs, and yield each when it is done.

    Args:
        config: what is asked for: how many workers, or whose.
        jobs: to be done, in any order.
        writer: of the store, which the caller has locked.
        features: by their names in the store.
    """
    if not jobs:
        return
    workers = count_workers(config, features, len(jobs), sum(job.seconds for job in jobs))
    if config.scheduler is not None or workers > 1:
        yield from _on_cluster(config, jobs, workers)
        return
    for job, waves in _decode_ahead(jobs):
        _write(job, waves, writer, features)
        yield job


def count_workers(config: ExtractConfig, features: dict[str, Feature], shards: int, seconds: float) -> int:
    """Return how many processes of this machine do the work on so many shards, and seconds of audio."""
    if config.workers is not None:
        return min(shards, config.workers)
    if any(feature.on_gpu for feature in features.values()):
        return 1
    return min(shards, len(os.sched_getaffinity(0)), 1 + int(seconds / WORTH_A_WORKER))


def _on_cluster(config: ExtractConfig, jobs: Sequence[Job], workers: int) -> Iterator[Job]:
    """Do the jobs on workers of one thread each, of this machine or of a cluster that sees the same files."""
    from distributed import KilledWorker, as_completed

    with _cluster(config, workers) as client:
        asked, run = _for_workers(config), uuid4().hex
        futures = {client.submit(_work, asked, run, job, pure=False): job for job in jobs}
        for future in as_completed(futures):
            job = futures[future]
            try:
                future.result()
            except KilledWorker:
                raise SerError(
                    f"{job} ended every worker that had it: if they lack memory, use fewer "
                    "--workers or a smaller encoder.batch_seconds"
                ) from None
            yield job


@contextmanager
def _cluster(config: ExtractConfig, workers: int) -> Iterator[Client]:
    """Give out the cluster that is named, or one of this machine for as long as it takes."""
    from distributed import Client, LocalCluster

    if config.scheduler is not None:
        try:
            client = Client(config.scheduler, timeout=CONNECT_SECONDS)
        except (OSError, ValueError) as error:
            raise SerError(f"no scheduler at {config.scheduler}: {error}") from None
        with client:
            yield client
        return
    quiet = {
        "scheduler_kwargs": {"dashboard": False, "dashboard_address": "localhost:0"},
        "silence_logs": logging.CRITICAL,
    }
    size = {"n_workers": workers, "threads_per_worker": 1, "memory_limit": 0}
    with LocalCluster(**size, **quiet) as cluster, Client(cluster) as client:
        yield client


def _for_workers(config: ExtractConfig) -> str:
    """Return the config as JSON, with paths that do not depend on the folder in which a worker was started."""
    settings = config.to_dict()
    settings["store"] = os.path.abspath(config.store_path())
    for feature in settings.values():
        if isinstance(feature, dict) and os.path.isdir(feature.get("checkpoint", "")):
            feature["checkpoint"] = os.path.abspath(feature["checkpoint"])
    return json.dumps(settings)


def _work(asked: str, run: str, job: Job) -> None:
    """Do a job in a worker."""
    waves: Waves = {clip.name: _try_read(clip) for clip in job.clips}
    _write(job, waves, _writer(asked, run), _features(asked))


@contextmanager
def _named(key: str, job: Job) -> Iterator[None]:
    """Say of an error that users can mend in which feature and shard it happened."""
    try:
        yield
    except SerError as error:
        raise SerError(f"{key}, {job}: {error}") from error
    except OSError as error:  # a full disk, mostly; HDF5 says it in many words
        what = os.strerror(error.errno) if error.errno else " ".join(str(error).split())
        raise SerError(
            f"{key}, {job}: {what}; what is written so far stays: when that is mended, give the same command again"
        ) from error


@lru_cache(maxsize=1)
def _features(asked: str) -> dict[str, Feature]:
    """Return the features, whose weights stay loaded from job to job."""
    return ExtractConfig.model_validate(json.loads(asked)).features()


@lru_cache(maxsize=1)
def _writer(asked: str, run: str) -> StoreWriter:  # noqa: ARG001, another run may find another plan
    return StoreWriter(ExtractConfig.model_validate(json.loads(asked)).store_path())


def _write(job: Job, waves: Waves, writer: StoreWriter, features: dict[str, Feature]) -> None:
    for key in job.features:
        good: dict[str, Wave] = {}
        rows = {clip.name: clip.row for clip in job.clips}
        with _named(key, job), writer.shard(key, job.number) as shard:
            for name, wave in waves.items():
                reason = wave if isinstance(wave, str) else job.impossible[key].get(name)
                if reason is None and not isinstance(wave, str):
                    good[name] = wave
                    shard.flag(name, describe_oddity(wave))
                else:
                    shard.fail(name, str(reason))
            names = list(good)
            for position, frames, flag in features[key].compute(list(good.values()), [rows[name] for name in names]):
                shard.flag(names[position], flag)
                shard.add(names[position], frames)


def _decode_ahead(jobs: Sequence[Job]) -> Iterator[tuple[Job, Waves]]:
    """Yield each job with its waveforms, decoding those of the next one meanwhile."""
    with ThreadPoolExecutor() as pool:
        ahead: list[dict[str, Future[Wave | str]]] = []
        for i, job in enumerate(jobs):
            ahead += [{c.name: pool.submit(_try_read, c) for c in j.clips} for j in jobs[i + len(ahead) : i + 2]]
            yield job, {name: future.result() for name, future in ahead.pop(0).items()}


def _try_read(clip: Clip) -> Wave | str:
    if not clip.path.exists():
        raise SerError(f"{clip.path} was there when it was planned, {socket.gethostname()} does not see it now")
    try:
        wave = read_wave(clip.path)
    except AudioError as error:
        return str(error)
    expected = round(clip.seconds * SAMPLING_RATE)
    return wave if len(wave) == expected else f"the file has changed: {len(wave)} samples, planned were {expected}"
