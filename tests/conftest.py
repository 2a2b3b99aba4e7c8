"""What all tests share."""

from collections.abc import Iterator

import dask
import pytest
from hypothesis import settings

from tests.processes import ensure_server

settings.register_profile("untimed", deadline=None)  # other work on the machine must not fail a test
settings.load_profile("untimed")


@pytest.fixture
def warm_workers() -> Iterator[None]:
    """Workers that this process starts begin with everything imported; those of commands do not."""
    ensure_server()
    with dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"}):
        yield
