"""Memory: how it is kept, and what is said where it does not suffice."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

from featurestore.shared.command import NO_MEMORY, lack_of
from featurestore.shared.errors import SerError

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of mallopt(3)


def keep_freed_memory() -> None:
    """Have glibc keep what is freed for the next allocation; elsewhere nothing happens.

    By default it gives every block of more than 32 MB back to the system, and maps memory anew for the next batch:
    without this an epoch of 25 x 1024 takes 1.15 to 1.2 times as long with ``fusion=none`` and 1.06 with attention, of
    7 x 512 1.0 and 1.06, and a step of the Conformer's convolutions on log-mel 1.8 to 1.9. It costs some 60 MB, with
    those convolutions 1.2 GB for 32 utterances of 3 s. In other threads than the main one it takes a process of one
    arena: see ``featurestore.shared.cluster``.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)  # glibc before 2.35 refuses a mapping threshold above 32 MB
        mallopt(M_TRIM_THRESHOLD, -1)  # what is free at the end of the heap stays there, however much


@contextmanager
def enough_memory() -> Iterator[None]:
    """Say of one model that memory does not suffice for it, so that others go on.

    Raises:
        SerError: where memory is exhausted.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:  # torch has no other for the memory of a CPU
        why = lack_of(NO_MEMORY, error)
        if not why:
            raise
        raise SerError(f"{why}; a smaller width or optim.batch_size takes less") from None
