"""The work on one shard, and who does it: this process, or many of them with dask.distributed.

A job depends on nothing but the plan, so it gives the same bytes wherever it runs, and can be repeated.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from extract.audio import SAMPLING_RATE, AudioError, Wave, describe_oddity, read_wave
from extract.config import ExtractConfig
from extract.features import Feature
from featurestore.writer import StoreWriter

WORTH_A_WORKER = 900.0
"""Seconds of audio for which the start of another process, some seconds, pays."""
Waves = dict[str, Wave | str]
"""The waveforms of a shard by name, or why there is none."""


class Clip(NamedTuple):
    """The audio of one utterance: its name, its file, and its planned length in seconds."""

    name: str
    path: Path
    seconds: float


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
    workers = min(len(jobs), config.workers or _default_workers(jobs, features))
    if config.scheduler is not None or workers > 1:
        yield from _on_cluster(config, jobs, workers)
        return
    for job, waves in _decode_ahead(jobs):
        _write(job, waves, writer, features)
        yield job


def _default_workers(jobs: Sequence[Job], features: dict[str, Feature]) -> int:
    """Return the number of cores, but no more than there is work for; 1 where a feature is computed on a GPU."""
    if any(feature.on_gpu for feature in features.values()):
        return 1
    return min(len(os.sched_getaffinity(0)), 1 + int(sum(job.seconds for job in jobs) / WORTH_A_WORKER))


def _on_cluster(config: ExtractConfig, jobs: Sequence[Job], workers: int) -> Iterator[Job]:
    """Do the jobs on workers of one thread each, of this machine or of a cluster that sees the same files."""
    from distributed import Client, LocalCluster, as_completed

    with ExitStack() as stack:
        if config.scheduler is None:
            cluster = LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                memory_limit=0,
                dashboard_address=None,
                silence_logs=logging.CRITICAL,
            )
            client = stack.enter_context(Client(stack.enter_context(cluster)))
        else:
            client = stack.enter_context(Client(config.scheduler))
        asked = json.dumps(config.to_dict())
        futures = {client.submit(_work, asked, job, pure=False): job for job in jobs}
        for future in as_completed(futures):
            future.result()
            yield futures[future]


def _work(asked: str, job: Job) -> None:
    """Do a job in a worker."""
    writer, features = _opened(asked)
    _write(job, {clip.name: _try_read(clip) for clip in job.clips}, writer, features)


@lru_cache(maxsize=1)
def _opened(asked: str) -> tuple[StoreWriter, dict[str, Feature]]:
    """Return the store and the features, whose weights stay loaded from job to job."""
    config = ExtractConfig.model_validate(json.loads(asked))
    return StoreWriter(os.path.abspath(config.store_path())), config.features()


def _write(job: Job, waves: Waves, writer: StoreWriter, features: dict[str, Feature]) -> None:
    for key in job.features:
        good: dict[str, Wave] = {}
        with writer.shard(key, job.number) as shard:
            for name, wave in waves.items():
                reason = wave if isinstance(wave, str) else job.impossible[key].get(name)
                if reason is None and not isinstance(wave, str):
                    good[name] = wave
                    shard.flag(name, describe_oddity(wave))
                else:
                    shard.fail(name, str(reason))
            names = list(good)
            for position, frames, flag in features[key].compute(list(good.values())):
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
    try:
        wave = read_wave(clip.path)
    except AudioError as error:
        return str(error)
    expected = round(clip.seconds * SAMPLING_RATE)
    return wave if len(wave) == expected else f"the file has changed: {len(wave)} samples, planned were {expected}"
