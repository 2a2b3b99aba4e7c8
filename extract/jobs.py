"""Distribute the work on shards: to this process, to many with dask.distributed, or to both side by side."""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import closing
from functools import lru_cache
from queue import SimpleQueue
from threading import Event
from typing import NamedTuple
from uuid import uuid4

from extract.config import ExtractConfig
from extract.features import Extractors
from extract.work import Job, Spent, do_job, do_jobs
from featurestore.access.writer import StoreWriter
from featurestore.shared.cluster import cluster
from featurestore.shared.errors import SerError

WORTH_A_WORKER = 900.0
"""Seconds of audio for which another process is worth the seconds that it takes to start, with a usual encoder."""
Done = tuple[Job, Spent]
"""A job that is done, and where its time went."""


def run_jobs(config: ExtractConfig, jobs: Sequence[Job], writer: StoreWriter, extractors: Extractors) -> Iterator[Done]:
    """Do all jobs, and yield each when it is done; those for a GPU and for CPUs apart, if there are both.

    Args:
        config: says how many workers there are, or gives the scheduler.
        jobs: to be done, in any order.
        writer: of the store, which the caller has locked.
        extractors: of the features.
    """
    if not jobs:
        return
    extractors = {key: one for key, one in extractors.items() if any(key in job.features for job in jobs)}
    on_gpu = [key for key, extractor in extractors.items() if extractor.on_gpu]
    here = [part for job in jobs if (part := job.only(on_gpu)).features]
    there = [part for job in jobs if (part := job.only([*set(extractors) - set(on_gpu)])).features]
    workers = count_workers(config, extractors, len(jobs), sum(job.seconds for job in jobs))
    if here and there and config.scheduler is None and config.workers is None:
        cores = count_workers(config, {}, len(there), sum(job.seconds for job in there))
        yield from side_by_side(do_jobs(here, writer, extractors), on_cluster(config, there, cores))
    elif config.scheduler is not None or workers > 1:
        yield from on_cluster(config, jobs, workers)
    else:
        yield from do_jobs(jobs, writer, extractors)


def count_workers(config: ExtractConfig, extractors: Extractors, shards: int, seconds: float) -> int:
    """Return how many processes of this machine do the work on this many shards and seconds of audio."""
    if config.workers is not None:
        return min(shards, config.workers)
    if any(extractor.on_gpu for extractor in extractors.values()):
        return 1
    return min(shards, len(os.sched_getaffinity(0)), 1 + int(seconds / WORTH_A_WORKER))


def side_by_side(*sources: Generator[Done]) -> Iterator[Done]:
    """Yield the results of all sources as they come, each source running in a thread.

    An error of one source is raised when the others have finished the job that they are doing.
    """
    found: SimpleQueue[Done | BaseException | None] = SimpleQueue()
    stop = Event()

    def collect(source: Generator[Done]) -> None:
        with closing(source):
            try:
                for one in source:
                    found.put(one)
                    if stop.is_set():
                        return
                found.put(None)
            except BaseException as error:
                found.put(error)

    with ThreadPoolExecutor(len(sources)) as pool:
        running = len([pool.submit(collect, source) for source in sources])
        try:
            while running:
                match found.get():
                    case None:
                        running -= 1
                    case BaseException() as error:
                        raise error
                    case done:
                        yield done
        finally:
            stop.set()


def on_cluster(config: ExtractConfig, jobs: Sequence[Job], workers: int) -> Generator[Done]:
    """Do the jobs on workers of one thread each, of this machine or of a cluster that sees the same files."""
    from distributed import KilledWorker, as_completed

    with cluster(config.scheduler, workers) as client:
        order = _Order(_for_workers(config), uuid4().hex)
        futures = {client.submit(_work, order, job, pure=False): job for job in jobs}
        for future in as_completed(futures):
            job = futures[future]
            try:
                spent = future.result()
            except CancelledError:
                raise SerError(
                    f"lost the scheduler {config.scheduler or 'of the workers'}: what is written stays; run the same "
                    "command again"
                ) from None
            except KilledWorker:
                raise SerError(
                    f"every worker that was given {job} died: if memory was exhausted, use fewer --workers or a "
                    "smaller encoder.batch_seconds"
                ) from None
            yield job, spent


class _Order(NamedTuple):
    """What an extraction asks of its workers.

    Attributes:
        settings: the config as JSON.
        run: tells this extraction from others with the same settings: weights or the plan may differ between them.
    """

    settings: str
    run: str


def _for_workers(config: ExtractConfig) -> str:
    """Return the config as JSON, with paths that do not depend on the folder in which a worker was started."""
    settings = config.to_dict()
    settings |= {
        "store": os.path.abspath(config.store_path()),
        "like": None,
    }  # the features have the settings of ``like`` by now
    for feature in settings.values():
        if isinstance(feature, dict) and os.path.isdir(feature.get("checkpoint", "")):
            feature["checkpoint"] = os.path.abspath(feature["checkpoint"])
    return json.dumps(settings)


def _work(order: _Order, job: Job) -> Spent:
    """Do a job in a worker."""
    return do_job(job, _writer(order), _extractors(order))


@lru_cache(maxsize=1)
def _extractors(order: _Order) -> Extractors:
    """Return the extractors, whose weights stay loaded from job to job."""
    return ExtractConfig.model_validate(json.loads(order.settings)).build()


@lru_cache(maxsize=1)
def _writer(order: _Order) -> StoreWriter:
    return StoreWriter(ExtractConfig.model_validate(json.loads(order.settings)).store_path())
