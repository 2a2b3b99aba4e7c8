"""The C library's memory."""

from __future__ import annotations

import ctypes

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
