"""Memory: what the C library keeps of it, and what is said when there is not enough."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

import torch

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of mallopt(3)
LARGEST = 2**31 - 1


def keep_freed_memory() -> None:
    """Have glibc keep what is freed for the next allocation; elsewhere nothing happens.

    By default it gives every large block back to the system, and mapping the next batch's memory anew takes as
    long as the arithmetic on it.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, LARGEST)
        mallopt(M_TRIM_THRESHOLD, LARGEST)


@contextmanager
def said_of_memory() -> Iterator[None]:
    """Make a MemoryError of what torch raises when memory lacks."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error):
            raise MemoryError(str(error).splitlines()[0]) from error
        raise
