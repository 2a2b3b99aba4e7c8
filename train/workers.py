"""Who does the work of a run: this process, or many of one thread each with dask.distributed."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from featurestore.cluster import cluster
from featurestore.errors import SerError
from train.config import TrainConfig
from train.training import device_of
from train.work import Job, Report, do_job

TOPIC = "epochs"


def run_jobs(folder: Path, config: TrainConfig, jobs: Sequence[Job], report: Report) -> Iterator[Job]:
    """Do all jobs, and yield each when it is done; each is done the same, whoever does it.

    Args:
        folder: of the run.
        config: how many workers, or whose.
        jobs: to be done.
        report: told of each epoch.
    """
    workers = count_workers(config, len(jobs))
    if config.scheduler is None and workers == 1:
        for job in jobs:
            do_job(str(folder), job, report)
            yield job
        return
    yield from _on_cluster(os.path.abspath(folder), config, jobs, workers, report)


def count_workers(config: TrainConfig, jobs: int) -> int:
    """Return how many processes of this machine do so many jobs."""
    if device_of(config.device).type != "cpu" and config.workers is None:
        return 1
    return min(max(1, jobs), config.workers or len(os.sched_getaffinity(0)))


def _on_cluster(folder: str, config: TrainConfig, jobs: Sequence[Job], workers: int, report: Report) -> Iterator[Job]:
    from distributed import KilledWorker, as_completed
    from distributed.client import CancelledError  # type: ignore[attr-defined]

    with cluster(config.scheduler, workers) as client:
        client.subscribe_topic(TOPIC, lambda event: report(event[1]))
        futures = {client.submit(_work, folder, job, pure=False): job for job in jobs}
        for future in as_completed(futures):
            job = futures[future]
            try:
                future.result()
            except CancelledError:
                raise SerError(
                    f"lost the scheduler {config.scheduler or 'of the workers'}: ser-train resume {folder} goes on"
                ) from None
            except KilledWorker:
                raise SerError(
                    f"fold {job.fold} ended every worker that had it: if they lack memory, use fewer --workers; "
                    f"ser-train resume {folder} goes on"
                ) from None
            yield job


def _work(folder: str, job: Job) -> None:
    """Do a job in a worker."""
    from distributed import get_worker

    worker = get_worker()

    def report(reached: dict[str, Any]) -> None:
        worker.log_event(TOPIC, reached)

    do_job(folder, job, report)
