"""Our extraction beside the ways in use: file by file, padded batches, s3prl; in one run, on one core.

python tests/benchmarks/extraction [MODEL ...] [--utterances 40] [--rounds 3]

Prints for each way the seconds per second of audio (median of rounds that take turns), the speed relative to the loop
over files, the padding, the largest relative L2 error of a layer beside that loop, and the peak memory of a process
that does nothing else. MODEL is one of models.py, with random weights. s3prl is left out, and named, where it is not
installed: pip install --no-deps s3prl
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from statistics import median

import torch
from cyclopts import App
from measure import in_own_process, largest_error, peak, processor, take_turns
from models import make
from pipeline import whole
from speech import speech
from ways import WAYS, States, padding

from extract.audio import SAMPLING_RATE, Wave
from featurestore.shared.command import run, say, say_table

app = App(name="bench", help=__doc__)
REFERENCE = "file by file"


@app.default
def main(*models: str, utterances: int = 40, rounds: int = 3) -> None:
    """Measure every way.

    Args:
        models: names of models.py; hubert-base when none is given.
        utterances: how many.
        rounds: in which the ways take turns.
    """
    torch.set_num_threads(1)
    waves = speech(utterances)
    seconds = sum(map(len, waves)) / SAMPLING_RATE
    reasons = {}
    if not find_spec("s3prl"):
        reasons["s3prl"] = "it is not installed"
    if "bf16" not in processor():
        reasons["ours, bfloat16"] = f"{processor()} has no arithmetic for it, and is many times slower"
    for way, reason in reasons.items():
        say(f"left out: {way}: {reason}")
    ways = [way for way in WAYS if way not in reasons]
    for name in models or ("hubert-base",):
        with tempfile.TemporaryDirectory() as folder:
            checkpoint = str(make(name, Path(folder)))
            times, found = take_turns(checkpoint, waves, ways, rounds)
            memory = {way: in_own_process(peak, checkpoint, way, utterances) for way in ways}
            say(f"{name}, {len(waves)} utterances, {seconds:.0f} s of speech, float32, one core of {processor()}")
            rows = [row(way, times, found, memory, seconds, waves) for way in ways]
            say_table(("way", "s / s of audio", "speed", "padding", "relative error", "peak MB"), rows)
            say(whole(checkpoint, waves, Path(folder), rounds))


def row(
    way: str,
    times: dict[str, list[float]],
    found: dict[str, States],
    memory: dict[str, float],
    seconds: float,
    waves: Sequence[Wave],
) -> tuple[object, ...]:
    speed = median(base / own for base, own in zip(times[REFERENCE], times[way], strict=True))
    wasted = padding(waves) if way in ("padded batches", "s3prl") else 0.0
    error = largest_error(found[way], found[REFERENCE])
    return (
        way,
        f"{median(times[way]) / seconds:.3f}",
        f"{speed:.2f}",
        f"{wasted:.0%}",
        f"{error:.1e}",
        round(memory[way]),
    )


if __name__ == "__main__":
    run(app)
