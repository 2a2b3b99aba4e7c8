"""What starts and ends a worker process of dask."""

from __future__ import annotations

from contextlib import suppress

from distributed import Nanny
from typing_extensions import override


class PatientNanny(Nanny):
    """A nanny that, where a killed worker is not gone within a second, as on a busy machine, lets it die by itself.

    Dask's raises a TimeoutError there, which would fail a command whose work is done.
    """

    @override
    async def kill(self, timeout: float = 5, reason: str = "nanny-kill") -> None:
        with suppress(TimeoutError):
            await super().kill(timeout, reason)
