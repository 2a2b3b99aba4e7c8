"""Who does the work: this process, or many of one thread each with dask.distributed."""

from __future__ import annotations

import os
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from threading import Lock
from typing import Any

import torch

from featurestore.shared.cluster import cluster
from featurestore.shared.errors import SerError
from train.models.inference import device_of
from train.running.work import Pack, Report, Task

ALONE = Lock()
"""Of the pack that a process does: what is drawn in it comes from generators that all its threads share."""
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


def count_workers(device: str | None, asked: int | None, tasks: int, scheduler: str | None = None) -> int:
    """Return how many processes do so many tasks: by default one a core, or one a GPU, or all of a scheduler."""
    if scheduler is not None and asked is None:
        with cluster(scheduler, 1) as client:
            asked = max(1, len(client.nthreads()))
    if device_of(device).type != "cpu" and asked is None:
        asked = 1 if device else torch.cuda.device_count()
    return min(max(1, tasks), asked or len(os.sched_getaffinity(0)))


def _on_cluster(
    do: Do, packs: Sequence[Pack], workers: int, scheduler: str | None, report: Report, then: Then
) -> Iterator[Done]:
    from distributed import KilledWorker, as_completed
    from distributed.client import CancelledError  # type: ignore[attr-defined]

    topic = f"epochs of {uuid.uuid4()}"  # a scheduler may have the packs of several runs
    with cluster(scheduler, workers) as client:
        client.subscribe_topic(topic, lambda event: report(event[1]))
        futures: dict[Any, Pack] = {}
        completed = as_completed()

        def submit(pack: Pack, priority: int = 0) -> None:
            future = client.submit(_do, do, pack, topic, pure=False, priority=priority)
            futures[future] = pack
            completed.add(future)

        for pack in packs:
            submit(pack)
        for future in completed:
            pack = futures.pop(future)
            try:
                failed = future.result()
            except CancelledError:
                lost = scheduler or "of the workers"
                raise SerError(f"lost the scheduler {lost}: resume goes on from the last epoch of each model") from None
            except KilledWorker:
                if len(pack) > 1:  # one of them may have done that
                    for task in pack:
                        submit([task])
                    continue
                job = pack[0][1]
                why = "every worker that had it died: if they lack memory, use fewer --workers, and resume"
                failed = [f"{'fold ' + str(job.fold) if job else 'the results'}: {why}"]
            for done in zip(pack, failed, strict=True):
                yield done
                for another in then(done[0]) if done[1] is None else ():
                    submit(another, priority=1)


def _do(do: Do, pack: Pack, topic: str) -> list[str | None]:
    """Do a pack in a worker, on a GPU of its own where there are several."""
    from distributed import get_worker

    worker = get_worker()
    if isinstance(worker.name, int) and torch.cuda.device_count() > 1:
        torch.cuda.set_device(worker.name % torch.cuda.device_count())

    def report(reached: dict[str, Any]) -> None:
        worker.log_event(topic, reached)

    with ALONE:
        return do(pack, report)
