"""The variants of a sweep trained together, beside the same ones trained by ser-train one after another.

python tests/benchmarks/sweep.py --store STORE --config configs/sweep/fusion_and_loss.yaml --folder DIR

The store is dropped from the page cache before the sweep and before each variant alone, which has one worker. Bytes are
those that the kernel read from the disk for the processes. With --megabytes-a-second the kernel holds reading to that
speed and, so that the page cache does not keep the store, the processes to --gigabytes of memory (root, cgroup v1).
"""

from __future__ import annotations

import os
import resource
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np

sys.path.append(str(Path(__file__).parent / "store"))

from cyclopts import App, Parameter
from measure import drop, fill

from featurestore.shared.command import run, say, say_table
from train.sweep.folder import SweepFolder

app = App(name="sweep", help=__doc__)
BIN = Path(sys.executable).parent
GROUPS = Path("/sys/fs/cgroup")
BLOCK = 512
"""Bytes of what the kernel counts as one block read."""


@dataclass(frozen=True)
class Cost:
    """What commands took."""

    seconds: float
    gigabytes: float


@app.default
def main(
    *overrides: Annotated[str, Parameter(allow_leading_hyphen=False)],
    store: Path,
    config: Path,
    folder: Path,
    workers: int = 2,
    alone: int | None = None,
    megabytes_a_second: int | None = None,
    gigabytes: float = 6,
    also_warm: bool = False,
    seed: int = 0,
) -> None:
    """Train them both ways, and print what each took.

    Args:
        overrides: settings of the sweep, as KEY=VALUE.
        store: on a disk.
        config: of the sweep.
        folder: for the runs; it must not be there.
        workers: of the sweep.
        alone: so many variants, spread evenly among all, are trained alone, and count for all; all of them when absent.
        megabytes_a_second: that may be read from the disk.
        gigabytes: of memory, with the page cache, where reading is held.
        also_warm: also train the sweep with the store in memory, which says what reading costs.
        seed: of the draw.
    """
    folder.mkdir(parents=True)
    sweep = [str(BIN / "ser-sweep"), "--store", str(store), "--config", str(config), f"--workers={workers}", *overrides]
    rows: list[tuple[str, ...]] = []
    with limited(store, megabytes_a_second, gigabytes) as groups:
        drop(store)
        together = cost([*sweep, f"--runs={folder / 'together'}"], groups)
        done = SweepFolder(next((folder / "together").glob("*/sweep/*/exp_1")))
        drawn = draw(len(done.variants), alone, seed)
        costs, same = [], 0
        for number in drawn:
            variant, runs = done.variants[number], folder / "alone" / str(number)
            command = shlex.split(done.command(variant))
            drop(store)
            costs.append(cost([str(BIN / command[0]), *command[1:], "workers=1", f"runs={runs}"], groups))
            mine = next(runs.rglob("predictions.csv")).read_bytes()
            same += mine == (done.run(variant).path / "predictions.csv").read_bytes()
    share = len(done.variants) / len(drawn)
    one_by_one = Cost(share * sum(one.seconds for one in costs), share * sum(one.gigabytes for one in costs))
    rows += [_row(f"{len(done.variants)} variants one after another", one_by_one, one_by_one)]
    rows += [_row("in a sweep", together, one_by_one)]
    if also_warm:
        fill(store)
        warm = cost([*sweep, f"--runs={folder / 'warm'}"], [])
        rows += [_row("in a sweep, the store in memory", warm, one_by_one)]
    say_table(("", "seconds", "of it", "GB from the disk", "of it"), rows)
    if len(drawn) < len(done.variants):
        say(f"one after another: {len(drawn)} variants were trained, each counts {share:g} times")
    numbers = ", ".join(map(str, drawn))
    say(f"{same} of {len(drawn)} variants have the same bytes both ways: {numbers}")


def draw(count: int, some: int | None, seed: int) -> list[int]:
    """Return some numbers below ``count``, evenly from a random one on: variants of one method follow each other."""
    some = count if some is None else min(some, count)
    return [int(number) for number in (np.random.default_rng(seed).random() + np.arange(some)) * count / some]


def cost(command: Sequence[str], groups: Sequence[Path]) -> Cost:
    """Return what a command took with its processes, in some control groups."""

    def enter() -> None:
        for group in groups:
            (group / "cgroup.procs").write_text(str(os.getpid()))

    say(shlex.join(command))
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN).ru_inblock, time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, preexec_fn=enter)
    seconds = time.perf_counter() - start
    return Cost(seconds, (resource.getrusage(resource.RUSAGE_CHILDREN).ru_inblock - before) * BLOCK / 1e9)


@contextmanager
def limited(store: Path, megabytes_a_second: int | None, gigabytes: float) -> Iterator[list[Path]]:
    """Make control groups in which reading from the disk of a store is held to a speed, and remove them."""
    if megabytes_a_second is None:
        yield []
        return
    groups = [GROUPS / kind / "ser_benchmark" for kind in ("blkio", "memory")]
    for group in groups:
        group.mkdir(exist_ok=True)
    try:
        device = os.stat(store).st_dev
        limit = f"{os.major(device)}:{os.minor(device)} {megabytes_a_second * 1_000_000}"
        (groups[0] / "blkio.throttle.read_bps_device").write_text(limit)
        (groups[1] / "memory.limit_in_bytes").write_text(str(round(gigabytes * 1e9)))
        yield groups
    finally:
        for group in groups:
            group.rmdir()


def _row(name: str, own: Cost, base: Cost) -> tuple[str, ...]:
    ratios = (own.seconds / base.seconds, own.gigabytes / base.gigabytes)
    return name, f"{own.seconds:.0f}", f"{ratios[0]:.3f}", f"{own.gigabytes:.3f}", f"{ratios[1]:.4f}"


if __name__ == "__main__":
    run(app)
