"""Who does the work: this process, or many of one thread each with dask.distributed."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from featurestore.shared.cluster import cluster
from featurestore.shared.errors import SerError
from train.models.inference import device_of
from train.running.work import Pack, Report, Task

TOPIC = "epochs"
Do = Callable[[Pack, Report], list[str | None]]
Done = tuple[Task, str | None]
"""A task that is over, and why it failed, if it did."""
Then = Callable[[Task], Sequence[Pack]]


def run_packs(
    do: Do,
    packs: Sequence[Pack],
    workers: int,
    scheduler: str | None,
    report: Report,
    then: Then = lambda _: (),
) -> Iterator[Done]:
    """Do all packs, and yield each task when its pack is over; each is done the same, whoever does it.

    Args:
        do: a function of a module, which does a pack, and says why each task failed, if it did.
        packs: to be done.
        workers: processes of this machine.
        scheduler: the address of one whose workers do it instead.
        report: told of each epoch.
        then: the packs that can be done once a task is.
    """
    if scheduler is not None or workers > 1:
        yield from _on_cluster(do, packs, workers, scheduler, report, then)
        return
    waiting = deque(packs)
    while waiting:
        pack = waiting.popleft()
        for done in zip(pack, do(pack, report), strict=True):
            yield done
            if done[1] is None:
                waiting.extendleft(then(done[0]))


def count_workers(device: str | None, asked: int | None, tasks: int) -> int:
    """Return how many processes of this machine do so many tasks."""
    if device_of(device).type != "cpu" and asked is None:
        return 1
    return min(max(1, tasks), asked or len(os.sched_getaffinity(0)))


def _on_cluster(
    do: Do, packs: Sequence[Pack], workers: int, scheduler: str | None, report: Report, then: Then
) -> Iterator[Done]:
    from distributed import KilledWorker, as_completed
    from distributed.client import CancelledError  # type: ignore[attr-defined]

    with cluster(scheduler, workers) as client:
        client.subscribe_topic(TOPIC, lambda event: report(event[1]))
        futures = {client.submit(_do, do, pack, pure=False): pack for pack in packs}
        completed = as_completed(list(futures))
        for future in completed:
            pack = futures.pop(future)
            try:
                failed = future.result()
            except CancelledError:
                raise SerError(
                    f"lost the scheduler {scheduler or 'of the workers'}: ser-train resume {pack[0][0]} goes on"
                ) from None
            except KilledWorker:
                why = "it ended every worker that had it: if they lack memory, use fewer --workers, and resume"
                failed = [f"{'fold ' + str(job.fold) if job else 'the results'}: {why}" for _, job in pack]
            for done in zip(pack, failed, strict=True):
                yield done
                for another in then(done[0]) if done[1] is None else ():
                    submitted = client.submit(_do, do, another, pure=False, priority=1)
                    futures[submitted] = another
                    completed.add(submitted)


def _do(do: Do, pack: Pack) -> list[str | None]:
    """Do a pack in a worker."""
    from distributed import get_worker

    worker = get_worker()

    def report(reached: dict[str, Any]) -> None:
        worker.log_event(TOPIC, reached)

    return do(pack, report)
