"""The side that measures: processes of one thread on one core, which are asked for epochs by turns."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from select import select

HERE = Path(__file__).parent
SAMPLING_SECONDS = 0.01
GIGA = 1e9


@dataclass
class Candidate:
    """A program of this folder that goes over some data again and again; see `laps`.

    Attributes:
        name: of the candidate.
        command: the file and its arguments.
        path: where the project is looked for first.
        laps: what it told of each epoch but the first.
        peak: the most memory that it has had beyond the page cache, in bytes.
        error: why it ended early.
    """

    name: str
    command: list[str]
    path: str = ""
    laps: list[dict[str, float]] = field(default_factory=list)
    peak: int = 0
    error: str = ""

    def start(self, core: int) -> None:
        """Start the process on one core, and wait until its first epoch is over."""
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / self.command[0]), *self.command[1:]],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": self.path},
            preexec_fn=lambda: _settle(core),
        )
        self.first = self._wait()

    def lap(self) -> None:
        """Have it do another epoch."""
        if self.error:
            return
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        found = self._wait()
        if found:
            self.laps.append(found)

    def end(self) -> None:
        """End the process."""
        if not self.error:
            self._process.communicate()

    def microseconds(self, clock: str = "cpu") -> list[float]:
        """Return the time of each epoch per frame."""
        return [lap[clock] / lap["frames"] * 1e6 for lap in self.laps]

    def _wait(self) -> dict[str, float]:
        """Return what the process tells next, and see meanwhile how much memory it has."""
        output = self._process.stdout
        assert output is not None
        while not select([output], [], [], SAMPLING_SECONDS)[0]:
            self.peak = max(self.peak, anonymous_bytes(self._process.pid))
        line = output.readline()
        if not line:
            self.error = f"ended with {self._process.wait()}, at {self.peak / GIGA:.1f} GB"
        return json.loads(line) if line else {}


def _settle(core: int) -> None:
    """Keep this process on one core, and have it ended before any other where memory runs out."""
    os.sched_setaffinity(0, {core})
    Path("/proc/self/oom_score_adj").write_text("1000")


def take_turns(candidates: list[Candidate], rounds: int, core: int) -> None:
    """Have all candidates do as many epochs, by turns: what disturbs the machine for a while disturbs all of them."""
    for candidate in candidates:
        candidate.start(core)
    for turn in range(rounds):
        for candidate in candidates[:: -1 if turn % 2 else 1]:
            candidate.lap()
    for candidate in candidates:
        candidate.end()


def anonymous_bytes(pid: int) -> int:
    """Return the memory that a process has of its own: no pages of files."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:")), 0)


def ratios(own: Candidate, other: Candidate) -> list[float]:
    """Return how many times as long as ``own`` another took, per frame, in each round."""
    return [b / a for a, b in zip(own.microseconds(), other.microseconds(), strict=False)]
