"""ser-train in processes of its own that begin with everything imported, so that each takes no ten seconds.

A server imports all, and forks a process for each command.
"""

from __future__ import annotations

import io
import json
import os
import resource
import signal
import subprocess
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SECONDS = 200
"""After which a command that hangs is ended."""


@dataclass(frozen=True)
class Done:
    """How a command ended; below 0 by a signal."""

    returncode: int
    stdout: str
    stderr: str


class Commands:
    """Starts commands.

    Args:
        folder: for what they print.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._count = folder, 0
        self._server = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path.cwd()
        )

    def start(self, *words: object, stdout: Path | None = None, **limits: int) -> Running:
        """Start ser-train, with limits of `resource`, such as FSIZE; it prints to files, or to ``stdout``."""
        self._count += 1
        out, err = (self._folder / f"{self._count}.{what}" for what in ("out", "err"))
        asked = {"words": [*map(str, words)], "out": str(stdout or out), "err": str(err), "limits": limits}
        return Running(self, self.ask(start=asked), out, err)

    def run(self, *words: object, **limits: int) -> Done:
        """Return how ser-train ended."""
        return self.start(*words, **limits).wait()

    def ask(self, **what: Any) -> int:
        self._server.stdin.write(json.dumps(what) + "\n")
        self._server.stdin.flush()
        return int(self._server.stdout.readline())

    def close(self) -> None:
        with self._server:
            self._server.stdin.close()


@dataclass
class Running:
    """A command that has been started."""

    commands: Commands
    pid: int
    out: Path
    err: Path

    def send(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self) -> Done:
        code = self.commands.ask(wait=self.pid)
        texts = (file.read_text() if file.exists() else "" for file in (self.out, self.err))
        return Done(code, *texts)


def serve() -> None:
    """Fork a process for each line of standard input, or wait for one, and answer with a number."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    for line in sys.stdin:
        asked = json.loads(line)
        if "wait" in asked:
            answers.write(f"{os.waitstatus_to_exitcode(os.waitpid(asked['wait'], 0)[1])}\n")
        elif pid := os.fork():
            answers.write(f"{pid}\n")
        else:
            become(**asked["start"])


def become(words: list[str], out: str, err: str, limits: dict[str, int]) -> None:
    """Become ser-train."""
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(out if descriptor == 1 else err, os.O_WRONLY | os.O_CREAT, 0o600), descriptor)
        setattr(sys, name, io.TextIOWrapper(io.FileIO(descriptor, "w", closefd=False), "utf-8", line_buffering=True))
    sys.argv = ["ser-train", *words]
    signal.alarm(SECONDS)
    warnings.simplefilter("error")
    for name, limit in limits.items():
        resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (limit, limit))
    try:
        main()
    except SystemExit as end:
        sys.stdout.flush()
        os._exit(int(end.code or 0))
    except BaseException:
        sys.excepthook(*sys.exc_info())
        os._exit(1)


def warm_up() -> None:
    """Do a little of all that imports or compiles something when it is first done."""
    parameter = torch.nn.Parameter(torch.zeros(3))
    optimiser = torch.optim.AdamW([parameter])
    parameter.grad = torch.ones(3)
    optimiser.step()
    for dtype in ("float32", "int8"):
        frames = encode(np.ones((3, 4, 5), np.float32), dtype)
        LayerSum(3, 5, learned=True)([frames]).sum().backward()
    figure = Figure(layout="constrained")
    figure.subplots().set(xlabel="x")
    for form in ("png", "svg"):
        figure.savefig(io.BytesIO(), format=form)


if __name__ == "__main__":
    import numpy as np
    import openpyxl  # noqa: F401
    import torch
    from matplotlib.figure import Figure

    import train.opened
    import train.predicting
    import train.run  # noqa: F401
    from featurestore.format.codec import encode
    from train.cli import main
    from train.layers import LayerSum

    torch.set_num_threads(1)
    warm_up()
    serve()
