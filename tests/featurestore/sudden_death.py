"""Ends a process in the middle of its work."""

from __future__ import annotations

import os
import signal
import sys

EVENTS = ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate")


def kill_after(operations: int) -> None:
    """Kill this process before that operation that changes something on the disk."""
    left = operations

    def count() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def counted(function):
        def call(*arguments, **keywords):
            count()
            return function(*arguments, **keywords)

        return call

    def heard(event: str, arguments: tuple) -> None:
        if event in EVENTS or (event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR)):
            count()

    sys.addaudithook(heard)
    os.fsync, os.pwrite = counted(lambda _: None), counted(os.pwrite)  # a kill is no power cut
