"""Worker processes for both stages, each with one thread, by dask.distributed."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from featurestore.shared.errors import SerError

if TYPE_CHECKING:
    from distributed import Client

CONNECT_SECONDS = 20
ENVIRONMENT, TRIM = "distributed.nanny.pre-spawn-environ", "MALLOC_TRIM_THRESHOLD_"
"""The environment in which dask starts its workers, and a variable in it that is removed: with it they would return all
memory to the system at once, and spend a fifth of the time on getting it again."""
ONE_ARENA = {"MALLOC_ARENA_MAX": 1}
"""Dask works in a thread. The arena of glibc that a thread has for itself gives every block of more than 64 MB back to
the system, whatever the thresholds; the one of the process keeps it."""
PROFILER = "distributed.worker.profile.enabled"
"""It keeps a tree of the stacks of each second for an hour, .6 MB a second, for a dashboard that nobody sees."""

WATCHES = {"distributed.admin.tick.interval": "1s", "distributed.admin.system-monitor.interval": "10s"}
"""How often each process measures the delay of its event loop, and the load of the machine, for the same dashboard. By
default it does so 50 times and twice a second, and two idle workers take a tenth of a core; with these, a fiftieth."""

QUEUE = "distributed.scheduler.worker-saturation"
"""Tasks that a worker has for each thread. Where it dies, all that it has count as having ended it: with more than one,
tasks that only waited there would be given up beside the one that needs too much memory."""


@contextmanager
def cluster(scheduler: str | None, workers: int) -> Iterator[Client]:
    """Yield a client of a cluster: that of a scheduler, or one on this machine that ends with the block.

    Args:
        scheduler: its address; its workers must see the same files.
        workers: number of processes on this machine, if there is no scheduler.

    Raises:
        SerError: if there is no scheduler at the address.
    """
    import dask
    from distributed import Client, LocalCluster

    from featurestore.shared.nanny import PatientNanny

    if scheduler is not None:
        try:
            client = Client(scheduler, timeout=CONNECT_SECONDS)
        except (OSError, ValueError) as error:
            raise SerError(f"found no scheduler at {scheduler}: {error}") from None
        with client:
            yield client
        return
    quiet = {
        "scheduler_kwargs": {"dashboard": False, "dashboard_address": "localhost:0"},
        "silence_logs": logging.CRITICAL,
    }
    size = {"n_workers": workers, "threads_per_worker": 1, "memory_limit": 0, "worker_class": PatientNanny}
    spawning = {key: value for key, value in dask.config.get(ENVIRONMENT).items() if key != TRIM}
    with (
        dask.config.set({ENVIRONMENT: spawning | ONE_ARENA, PROFILER: False, QUEUE: 1.0} | WATCHES),
        LocalCluster(**size, **quiet) as local,
        Client(local) as client,
    ):
        yield client
