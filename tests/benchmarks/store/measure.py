"""How things are measured: in a process of their own, turn by turn, with the page cache full or empty."""

from __future__ import annotations

import ctypes
import gc
import mmap
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np
import numpy.typing as npt

P, T = ParamSpec("P"), TypeVar("T")
PIECE = 1 << 23
RESIDENT = 0.01
"""The share of a file in the page cache from which on it does not count as dropped."""


def alone(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Return ``function(*args)``, called in a fresh process: no reader has the threads or memory of another."""
    with ProcessPoolExecutor(1, get_context("spawn")) as fresh:
        return fresh.submit(function, *args, **kwargs).result()


def use_one_core() -> None:
    """Keep this process, and the threads that it starts from now on, on one core."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def seconds_of(action: Callable[[], Any]) -> float:
    """Return how long ``action`` takes, without a garbage collection in it that others have made necessary."""
    gc.collect()
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def take_turns(actions: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each action in each round; what disturbs the machine for a while disturbs all of them."""
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    for turn in range(rounds):
        for name in sorted(actions, reverse=bool(turn % 2)):
            seconds[name].append(seconds_of(actions[name]))
    return seconds


def ratio_of(own: Sequence[float], base: Sequence[float]) -> float:
    """Return the median over the rounds of the ratio of two speeds."""
    return statistics.median(o / b for o, b in zip(own, base, strict=True))


def aligned(size: int) -> npt.NDArray[np.uint8]:
    """Return ``size`` bytes that begin on a page and have been touched."""
    buffer = np.frombuffer(mmap.mmap(-1, max(size, mmap.PAGESIZE)), np.uint8)
    buffer.fill(0)
    return buffer


def files_below(*places: Path) -> Iterator[Path]:
    """Yield every file that is one of ``places`` or below one."""
    for place in places:
        yield from (file for file in place.rglob("*") if file.is_file()) if place.is_dir() else [place]


def bytes_below(*places: Path) -> int:
    """Return the bytes of all files that are among ``places`` or below them."""
    return sum(file.stat().st_size for file in files_below(*places))


def sync(*places: Path) -> None:
    """Put all files on the disk, so that nothing is written back while others are measured."""
    for file in files_below(*places):
        with open(file, "rb") as opened:
            os.fsync(opened.fileno())


def drop(*places: Path) -> float:
    """Drop the files from the page cache, and return the share of their bytes that is still in it."""
    sync(*places)
    for file in files_below(*places):
        with open(file, "rb") as opened:
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    share = resident(*places)
    if share > RESIDENT and os.access("/proc/sys/vm/drop_caches", os.W_OK):
        Path("/proc/sys/vm/drop_caches").write_text("1")
        share = resident(*places)
    return share


def fill(*places: Path) -> None:
    """Put the files into the page cache, all in the same way: how they came there changes how fast they are read."""
    drop(*places)
    for file in files_below(*places):
        with open(file, "rb", buffering=0) as opened:
            while opened.read(PIECE):
                pass


def resident(*places: Path) -> float:
    """Return the share of the files' pages that is in the page cache, by mincore."""
    counts = np.array([_resident_pages(file) for file in files_below(*places) if file.stat().st_size])
    return float(counts[:, 0].sum() / counts[:, 1].sum())


def _resident_pages(file: Path) -> tuple[int, int]:
    with open(file, "rb") as opened:
        content = np.frombuffer(mmap.mmap(opened.fileno(), 0, prot=mmap.PROT_READ), np.uint8)
    pages = np.zeros(-(-content.size // mmap.PAGESIZE), np.uint8)
    libc = ctypes.CDLL(None, use_errno=True)
    place, size = ctypes.c_void_p(content.ctypes.data), ctypes.c_size_t(content.size)
    if libc.mincore(place, size, ctypes.c_void_p(pages.ctypes.data)):
        raise OSError(ctypes.get_errno(), f"mincore of {file}")
    return int((pages & 1).sum()), pages.size


def disk_bytes() -> int:
    """Return the bytes that this process has had read from the disk so far."""
    return _number("/proc/self/io", "read_bytes")


def peak_bytes() -> int:
    """Return the most memory that this process has had; unlike ``ru_maxrss``, not that of the one that started it."""
    return _number("/proc/self/status", "VmHWM") * 1024


def memory_bytes() -> int:
    """Return the memory that this process has now."""
    return _number("/proc/self/status", "VmRSS") * 1024


def _number(path: str, key: str) -> int:
    lines = Path(path).read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))
