from __future__ import annotations

from featurestore.shared.cluster import cluster


def _kept(dask_worker) -> tuple[int, bool]:
    return dask_worker.state.nthreads, "profile" in dask_worker.periodic_callbacks


def test_workers_have_one_thread_and_keep_no_profile_of_each_second():
    with cluster(None, 1) as client:
        assert list(client.run(_kept).values()) == [(1, False)]
