"""How much faster two cores are than one: python pairs.py STORE FUSION

Epochs of the products alone and of ours by one process, and by two side by side, each of one thread on a core of its
own, which share nothing but the machine.
"""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from statistics import median

from turns import Candidate

ROUNDS = 5
PROGRAMS = {"products alone": "limit.py", "ours": "ours.py"}


def laps(program: str, store: str, fusion: str, core: int) -> float:
    """Return the seconds of an epoch, the median of all but the first."""
    candidate = Candidate(program, [program, store, fusion])
    candidate.start(core)
    for _ in range(ROUNDS):
        candidate.lap()
    candidate.end()
    return median(lap["wall"] for lap in candidate.laps)


def main(store: str, fusion: str) -> None:
    cores = sorted(os.sched_getaffinity(0))[:2]
    for name, program in PROGRAMS.items():
        alone = laps(program, store, fusion, cores[0])
        with ThreadPoolExecutor(2) as pool:
            beside = list(pool.map(laps, [program] * 2, [store] * 2, [fusion] * 2, cores))
        faster = sum(alone / one for one in beside)
        print(f"{name}: {alone:.2f} s alone, {' and '.join(f'{one:.2f}' for one in beside)} s: two are {faster:.2f} x")


if __name__ == "__main__":
    main(*sys.argv[1:])
