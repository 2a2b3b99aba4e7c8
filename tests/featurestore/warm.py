"""Imported where processes are made for `probing.in_child`, so that each of them has imported everything."""

import contextlib
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dask
import pytest  # noqa: F401, the main module of the process that asks

from tests.featurestore import probing
from tests.featurestore.toy import FORMS, Toy

argv = list(sys.argv)
with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(1) as pool, dask.config.set(pool=pool):
    (Path(folder) / "labels.csv").write_text("name,mood\na1,good\n")
    for suffix in FORMS:
        with contextlib.redirect_stdout(None):
            probing.use(Toy().write(Path(folder) / f"toy{suffix}"), Path(folder) / suffix, Path(folder) / "labels.csv")
sys.argv[:] = argv
