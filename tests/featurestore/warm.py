"""All that reading and changing a store imports, some of it when something is first done, for `tests.processes`."""

import contextlib
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dask

from tests.featurestore import probing
from tests.featurestore.toy import SUFFIXES, Toy

argv = list(sys.argv)
with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(1) as pool, dask.config.set(pool=pool):
    (Path(folder) / "labels.csv").write_text("name,mood\na1,good\n")
    for suffix in SUFFIXES:
        with contextlib.redirect_stdout(None):
            probing.use(Toy().write(Path(folder) / f"toy{suffix}"), Path(folder) / suffix, Path(folder) / "labels.csv")
sys.argv[:] = argv
assert threading.active_count() == 1
