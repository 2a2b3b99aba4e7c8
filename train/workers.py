"""Who does the work: this process, or many of one thread each with dask.distributed."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from featurestore.cluster import cluster
from featurestore.errors import SerError
from train.training import device_of
from train.work import Job, Report

TOPIC = "epochs"
Task = tuple[str, Job | None]
"""The folder of a run, and a job of it; None stands for its results, where all jobs are done."""
Do = Callable[[str, Job | None, Report], None]
Done = tuple[Task, SerError | None]
"""A task that is over, and why it failed, if it did."""


def run_tasks(
    do: Do,
    tasks: Sequence[Task],
    workers: int,
    scheduler: str | None,
    report: Report,
    then: Callable[[Task], list[Task]] = lambda _: [],
) -> Iterator[Done]:
    """Do all tasks, and yield each when it is over; each is done the same, whoever does it.

    Args:
        do: a function of a module, which does a task.
        tasks: to be done.
        workers: processes of this machine.
        scheduler: the address of one whose workers do it instead.
        report: told of each epoch.
        then: the tasks that can be done once this one is.
    """
    if scheduler is None and workers == 1:
        waiting = deque(tasks)
        while waiting:
            task = waiting.popleft()
            error = None
            try:
                do(*task, report)
                waiting.extendleft(reversed(then(task)))
            except SerError as problem:
                error = problem
            yield task, error
        return
    yield from _on_cluster(do, tasks, workers, scheduler, report, then)


def count_workers(device: str | None, asked: int | None, tasks: int) -> int:
    """Return how many processes of this machine do so many tasks."""
    if device_of(device).type != "cpu" and asked is None:
        return 1
    return min(max(1, tasks), asked or len(os.sched_getaffinity(0)))


def _on_cluster(
    do: Do,
    tasks: Sequence[Task],
    workers: int,
    scheduler: str | None,
    report: Report,
    then: Callable[[Task], list[Task]],
) -> Iterator[Done]:
    from distributed import KilledWorker, as_completed
    from distributed.client import CancelledError  # type: ignore[attr-defined]

    with cluster(scheduler, workers) as client:
        client.subscribe_topic(TOPIC, lambda event: report(event[1]))
        futures = {client.submit(_do, do, *task, pure=False): task for task in tasks}
        completed = as_completed(list(futures))
        for future in completed:
            task = futures.pop(future)
            folder, job = task
            error = None
            try:
                future.result()
                for next_task in then(task):
                    another = client.submit(_do, do, *next_task, pure=False)
                    futures[another] = next_task
                    completed.add(another)
            except SerError as problem:
                error = problem
            except CancelledError:
                raise SerError(
                    f"lost the scheduler {scheduler or 'of the workers'}: ser-train resume {folder} goes on"
                ) from None
            except KilledWorker:
                what = f"fold {job.fold}" if job else "the results"
                error = SerError(
                    f"{what} ended every worker that had it: if they lack memory, use fewer --workers; "
                    f"ser-train resume {folder} goes on"
                )
            yield task, error


def _do(do: Do, folder: str, job: Job | None) -> None:
    """Do a task in a worker."""
    from distributed import get_worker

    worker = get_worker()

    def report(reached: dict[str, Any]) -> None:
        worker.log_event(TOPIC, reached)

    do(folder, job, report)
