"""One process, two workers, and two workers of which one is killed: the time of each, and whether the bytes agree.

python tests/benchmarks/extraction/workers.py [--utterances 300]

The encoder is the untrained one of the demo, with pitch and log-mel; the speech is Praat's.
"""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from cyclopts import App
from pipeline import write_dataset
from speech import speech

from extract.audio import SAMPLING_RATE
from featurestore.shared.command import run, say

app = App(name="workers", help=__doc__)


@app.default
def main(*, utterances: int = 300) -> int:
    """Measure all three.

    Args:
        utterances: how many.
    """
    with tempfile.TemporaryDirectory() as folder:
        waves = speech(utterances)
        labels = write_dataset(waves, Path(folder))
        say(f"{utterances} utterances, {sum(map(len, waves)) / SAMPLING_RATE:.0f} s of speech")
        digests = {}
        for name, workers, kill in (
            ("one process", 1, False),
            ("two workers", 2, False),
            ("two workers, one killed", 2, True),
        ):
            store = Path(folder) / f"{len(digests)}.zarr"
            seconds = extraction(labels, store, workers, kill)
            digests[name] = digest(store)
            same = "the same bytes" if digests[name] == digests["one process"] else "OTHER BYTES"
            say(f"{name}: {seconds:.1f} s, {same}")
    return len(set(digests.values())) - 1


def extraction(labels: Path, store: Path, workers: int, kill: bool) -> float:
    """Run ser-extract, and kill one of its workers when two shards of the encoder are there."""
    arguments = ["--dataset=csv", f"--root={labels}", f"--store={store}", f"--workers={workers}", "shard_seconds=40"]
    arguments += ["--encoder=hubert-tiny-untrained", "--features=pitch,logmel"]
    start = time.perf_counter()
    command = [sys.executable, "-c", "from extract.cli import main; main()", *arguments]
    started = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    records = store / "features" / "hubert-tiny-untrained" / "shards"
    while kill and started.poll() is None:
        children = psutil.Process(started.pid).children(recursive=True)
        processes = [child for child in children if "spawn_main" in " ".join(child.cmdline())]
        if len(processes) == workers and records.exists() and len(list(records.glob("*.json"))) >= 2:
            os.kill(processes[0].pid, signal.SIGKILL)
            kill = False
        time.sleep(0.01)
    if started.wait() != 0 or kill:
        raise RuntimeError(f"ser-extract ended with {started.returncode}, or before a worker could be killed")
    return time.perf_counter() - start


def digest(store: Path) -> str:
    """Return the SHA-256 of all files of a store, by their paths."""
    found = hashlib.sha256()
    for file in sorted(file for file in store.rglob("*") if file.is_file()):
        found.update(f"{file.relative_to(store)}\n".encode() + file.read_bytes())
    return found.hexdigest()


if __name__ == "__main__":
    run(app)
