"""Processes that begin with everything imported: to import it takes seconds, to fork a process that has it none.

A server imports it once, and makes a process whenever one is asked for. What it imports are modules called ``warm``,
in the folders of the tests that are collected.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import io
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import types
import warnings
from dataclasses import dataclass
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
FRESH = multiprocessing.get_context("forkserver")
"""Where processes come from that know nothing of the tests before."""
NAMES = {"extract": "ser-extract", "featurestore": "ser-store", "train": "ser-train"}
_warm = ["pytest"]  # the main module of the process that asks


def begin_with(module: str) -> None:
    """Have every process begin with a module imported; to be called before any is started."""
    if module not in _warm:
        _warm.append(module)
        FRESH.set_forkserver_preload(_warm)


def ensure_server() -> None:
    """Start the server, where it finds the tests; whoever else uses processes of this kind shares it."""
    with contextlib.chdir(ROOT):
        forkserver.ensure_running()


@dataclass(frozen=True)
class Done:
    """How a command ended; below 0 by a signal."""

    returncode: int
    stdout: str
    stderr: str


class Command:
    """A command of this repository, or a program of its tests, as a process of its own.

    Args:
        stage: the package of the command.
        module: with the function ``main`` of the program; of the command when absent.
    """

    def __init__(self, stage: str, module: str | None = None) -> None:
        self._name, self._module = NAMES[stage], module or f"{stage}.cli"
        begin_with(f"tests.{stage}.warm")

    def start(
        self,
        *words: object,
        stdout: Path | None = None,
        stdin: str = "",
        env: dict[str, str] | None = None,
        memory: int | None = None,
        seconds: int = 200,
        **limits: int,
    ) -> Running:
        """Start it in the current folder; warnings are errors.

        Args:
            words: its arguments.
            stdout: where it prints, if not into a file that is read when it has ended.
            stdin: what it reads.
            env: variables of the environment beside those that there are.
            memory: bytes that it may take beyond those that it begins with.
            seconds: after which it is ended.
            limits: of `resource`, such as FSIZE.
        """
        ensure_server()
        folder = tempfile.TemporaryDirectory(prefix="command")
        out, err, given = (Path(folder.name) / name for name in ("out", "err", "in"))
        given.write_text(stdin)
        files = (given, stdout or out, err)
        argv, variables = [self._name, *map(str, words)], {**os.environ, **(env or {})}
        process = FRESH.Process(target=_become, args=(self._module, argv, files, variables, memory, seconds, limits))
        process.start()
        return Running(process, folder, out, err)

    def __call__(self, *words: object, **how: Any) -> Done:
        """Return how it ended; see `start`."""
        return self.start(*words, **how).wait()

    run = __call__

    def anew(self, *words: object, env: dict[str, str] | None = None) -> Done:
        """Return how it ended where nothing had been imported, as where a user gives it."""
        command = [sys.executable, "-W", "error", "-c", f"from {self._module} import main; main()"]
        given = {**os.environ, "PYTHONPATH": str(ROOT), **(env or {})}
        ended = subprocess.run([*command, *map(str, words)], env=given, capture_output=True, text=True, check=False)
        return Done(ended.returncode, ended.stdout, ended.stderr)


@dataclass
class Running:
    """A command that has been started."""

    process: Any
    folder: tempfile.TemporaryDirectory[str]
    out: Path
    err: Path

    @property
    def pid(self) -> int:
        return int(self.process.pid)

    def send(self, number: int) -> None:
        """Send a signal."""
        os.kill(self.pid, number)

    def ended(self) -> bool:
        """Return whether it has ended."""
        return self.process.exitcode is not None

    def wait(self) -> Done:
        """Return how it ended."""
        self.process.join()
        with self.folder:
            texts = (file.read_text() if file.exists() else "" for file in (self.out, self.err))
            return Done(self.process.exitcode, *texts)


def limit_memory(more: int) -> None:
    """Let this process take no more than so many bytes beyond what it has."""
    status = Path("/proc/self/status").read_text().splitlines()
    taken = int(next(line for line in status if "VmData" in line).split()[1])
    resource.setrlimit(resource.RLIMIT_DATA, (taken * 1024 + more,) * 2)


def _become(
    module: str,
    argv: list[str],
    files: tuple[Path, Path, Path],
    variables: dict[str, str],
    memory: int | None,
    seconds: int,
    limits: dict[str, int],
) -> None:
    """Become a command: this process does nothing else, and ends as one of that name would."""
    given, out, err = files
    for descriptor, file, flags in ((0, given, os.O_RDONLY), (1, out, os.O_WRONLY), (2, err, os.O_WRONLY)):
        opened = os.open(file, flags | (os.O_CREAT if descriptor else 0), 0o600)
        os.dup2(opened, descriptor)
        os.close(opened)
    sys.stdin = io.TextIOWrapper(io.FileIO(0, closefd=False), "utf-8")
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        stream = io.TextIOWrapper(io.FileIO(descriptor, "w", closefd=False), "utf-8", line_buffering=True)
        setattr(sys, name, stream)
    os.environ.clear()
    os.environ.update(variables)
    sys.argv = argv
    sys.modules["__main__"] = types.ModuleType("__main__")  # nothing that its own processes would import
    signal.alarm(seconds)
    warnings.resetwarnings()
    warnings.simplefilter("error")
    if memory is not None:
        limit_memory(memory)
    for name, limit in limits.items():
        kind = getattr(resource, f"RLIMIT_{name}")
        resource.setrlimit(kind, (limit, resource.getrlimit(kind)[1]))
    os._exit(_ended(module))


def _ended(module: str) -> int:
    """Run the command, do what an interpreter does at its end, and return its exit code."""
    try:
        importlib.import_module(module).main()
        code = 0
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:
        most = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))  # what went wrong is printed into a file
        sys.excepthook(*sys.exc_info())
        code = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    return code
