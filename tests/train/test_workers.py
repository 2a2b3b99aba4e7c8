"""Packs are done by other processes: one at a time in each, whatever becomes of a worker."""

import os
import resource
import threading
import time

import dask
import torch
from distributed import LocalCluster

from train.running.memory import keep_freed_memory
from train.running.work import Job
from train.running.workers import count_workers, run_packs

HERE = threading.Event()


def end_at_the_bad_one(pack, report):
    """Do what a pack does that needs more memory than there is."""
    if any(path == "bad" for path, _ in pack):
        os._exit(1)
    return [None] * len(pack)


def overlapping(pack, report):
    """Say whether another pack is done meanwhile."""
    if HERE.is_set():
        return ["another is here"] * len(pack)
    HERE.set()
    report({"run": pack[0][0]})
    time.sleep(0.2)
    HERE.clear()
    return [None] * len(pack)


def mapping_anew(pack, report):
    """Say how many pages are mapped when 128 MB are filled that another tensor has freed.

    That is the least of ten times. The glibc of Debian 12 may lay the first eight beside each other: a block that torch
    aligns leaves a small chunk, of which a thread keeps seven aside, and each of them parts the freed memory.
    """
    keep_freed_memory()
    mapped = []
    for _ in range(10):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.ones(2**25)
        mapped.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    return [str(min(mapped))]


def test_a_worker_keeps_the_memory_of_large_blocks():
    with dask.config.set({"distributed.worker.multiprocessing-method": "spawn"}):  # as commands do, not as warm_workers
        (_, pages), _ = run_packs(mapping_anew, [[("a", None)], [("b", None)]], 2, None, print)
    assert int(pages) < 1000


def test_one_that_ends_its_worker_does_not_fail_those_beside_it():
    job, fine = Job(0, 0), [("a", Job(0, 0)), ("b", Job(0, 0)), ("c", None)]
    with dask.config.set({"distributed.scheduler.allowed-failures": 0}):
        done = dict(run_packs(end_at_the_bad_one, [[fine[0], ("bad", job), fine[1]], [fine[2]]], 2, None, print))
    assert {task: why for task, why in done.items() if task in fine} == dict.fromkeys(fine)
    assert done["bad", job].startswith("fold 0: every worker that had it died: if they lack memory")


def test_a_worker_of_several_threads_does_one_pack_at_a_time():
    """What dropout draws comes from one generator of the process."""
    packs, heard = [[(str(number), None)] for number in range(6)], []
    with LocalCluster(n_workers=1, threads_per_worker=3, dashboard_address=None) as cluster:
        address = cluster.scheduler_address
        assert count_workers(None, None, 10, address) == 1
        done = list(run_packs(overlapping, packs, 1, address, heard.append))
    assert sorted(done) == [((str(number), None), None) for number in range(6)]
    assert {one["run"] for one in heard} <= {str(number) for number in range(6)}
