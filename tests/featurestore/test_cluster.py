from __future__ import annotations

from distributed import Nanny

from featurestore.shared.cluster import cluster


def _kept(dask_worker) -> tuple[int, bool]:
    return dask_worker.state.nthreads, "profile" in dask_worker.periodic_callbacks


def test_workers_have_one_thread_and_keep_no_profile_of_each_second():
    with cluster(None, 1) as client:
        assert list(client.run(_kept).values()) == [(1, False)]


def test_workers_that_take_long_to_die_do_not_fail_what_they_have_done(monkeypatch):
    """As on a machine so busy that a worker is not gone within a second after it was killed."""
    monkeypatch.setattr(Nanny.close, "__defaults__", (0, "nanny-close"))
    with cluster(None, 1) as client:
        worker = client.nthreads()
    with cluster(None, 1) as client:
        assert len(client.nthreads()) == len(worker) == 1
