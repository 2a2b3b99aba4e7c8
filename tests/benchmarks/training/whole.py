"""What is measured in wall time: the first epoch with the store on the disk alone, and six folds in processes."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from measure import drop, fill
from report import Figure
from turns import HERE, Candidate


def cold(case: str, store: Path, fusion: str, rounds: int, core: int) -> list[Figure]:
    """Compare the first epoch of a fresh process with the store dropped from the page cache, and all in it."""
    seconds: dict[str, list[float]] = {"warm": [], "cold": []}
    left = 0.0
    for _ in range(rounds):
        for kind, prepare in (("warm", fill), ("cold", drop)):
            left = max(left, (prepare(store) or 0.0))
            candidate = Candidate(kind, ["ours.py", str(store), fusion])
            candidate.start(core)
            candidate.end()
            seconds[kind].append(candidate.first["wall"])
    ratio = median(c / w for c, w in zip(seconds["cold"], seconds["warm"], strict=True))
    unit = f"s; {left:.1%} of the store was left in memory"
    raw = {"seconds": seconds, "resident_before": left}
    return [
        Figure(f"cold, {case}", "first epoch, page cache full", median(seconds["warm"]), "s", raw=raw),
        Figure(f"cold, {case}", "first epoch, page cache empty", median(seconds["cold"]), unit, ratio=ratio),
    ]


def folds(store: Path, rounds: int) -> list[Figure]:
    """Compare six folds in one process with six folds in two."""
    seconds: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(rounds):
        for workers, found in seconds.items():
            with tempfile.TemporaryDirectory() as folder:
                command = [sys.executable, str(HERE / "folds.py"), str(store), str(workers), folder]
                found.append(float(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout))
    ratio = median(one / two for one, two in zip(seconds[1], seconds[2], strict=True))
    return [
        Figure("six folds", "workers=1", median(seconds[1]), "s", raw={"seconds": seconds[1]}),
        Figure("six folds", "workers=2", median(seconds[2]), "s", ratio=ratio, raw={"seconds": seconds[2]}),
    ]
