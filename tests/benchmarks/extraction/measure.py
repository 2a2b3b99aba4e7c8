"""How the ways are measured: in turns, and for their memory each in a process of its own."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from speech import speech
from ways import BATCH, WAYS, States

from extract.audio import Wave


def take_turns(
    checkpoint: str, waves: Sequence[Wave], ways: Sequence[str], rounds: int
) -> tuple[dict[str, list[float]], dict[str, States]]:
    """Return the seconds of each way in each round, and what it gave."""
    times: dict[str, list[float]] = {way: [] for way in ways}
    found: dict[str, States] = {}
    for way in ways:
        WAYS[way](checkpoint, waves[:1])  # loads the weights
    for _ in range(rounds):
        for way in ways:
            start = time.perf_counter()
            found[way] = WAYS[way](checkpoint, waves)
            times[way].append(time.perf_counter() - start)
    return times, found


def largest_error(found: States, exact: States) -> float:
    """Return the largest relative L2 error of a layer but the last, which transformers 4 and 5 give differently."""
    pairs = [(a, b) for one, other in zip(found, exact, strict=True) for a, b in zip(one[:-1], other[:-1], strict=True)]
    return max(float(np.linalg.norm(a - b) / np.linalg.norm(b)) for a, b in pairs)


def in_own_process(function, *arguments):  # type: ignore[no-untyped-def]
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def peak(checkpoint: str, way: str, utterances: int) -> float:
    """Return the megabytes that a process takes at most, beyond what it has before it loads the model."""
    torch.set_num_threads(1)
    waves = speech(utterances)
    before = _highest()
    for start in range(0, utterances, BATCH):  # as a shard: what was found is not kept
        WAYS[way](checkpoint, waves[start : start + BATCH])
    return _highest() - before


def _highest() -> float:
    """Return the most memory that this process has had, in megabytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return float(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1e3


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    name = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    flags = next(line for line in lines if line.startswith("flags")).split()
    widest = next((flag for flag in ("amx_bf16", "avx512_bf16", "avx512f", "avx2") if flag in flags), "no avx2")
    return f"{name} ({widest})"
