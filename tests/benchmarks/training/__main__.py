"""A training epoch beside the trainer before, the frozen encoder in the loop, a DataLoader, and the products alone.

python tests/benchmarks/training [--store STORE --whisper FOLDER --audio FOLDER] [--minutes 120] [--cold] [--folds]

Everything is warm, in one thread on one core, in turns. Times are of the processor, which on one core are those of the
clock less what others take of it; both are kept. What is absent is left out, with the reason.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated

sys.path.append(str(Path(__file__).parents[1] / "store"))

from cyclopts import App, Parameter, validators
from figures import figures_of, left_out, save
from measure import fill
from report import Figure, hardware, say_part, say_summary
from synthetic import make_store
from turns import Candidate, take_turns
from whole import cold as cold_figures
from whole import folds as folds_figures

from featurestore.shared.command import run, say

app = App(name="bench", help=__doc__)
BEFORE = "f9501e5"
"""The last commit whose trainer decodes all layers to float32."""
FUSIONS = ("none", "attention")
PLAIN_FRAMES = 20_000
"""Of the utterances of which there are .npy files: ten times the bytes of the store would not stay in memory."""


@app.default
def main(
    *,
    store: Path | None = None,
    whisper: Path | None = None,
    audio: Path | None = None,
    minutes: Annotated[float, Parameter(validator=validators.Number(gte=10))] = 120,
    rounds: int = 3,
    cold: bool = False,
    folds: bool = False,
    folder: Path | None = None,
    out: Path = Path("runs/benchmarks/training"),
) -> None:
    """Measure everything.

    Args:
        store: with hidden states of whisper-base and pitch, and V, A and D.
        whisper: a checkpoint of Whisper.
        audio: what the store was made of.
        minutes: of speech in the synthetic store, 77 MB each, at least ten, which fill some batches; all of it should
            stay in the page cache.
        rounds: epochs of each candidate after the first one.
        cold: also measure an epoch that reads from the disk.
        folds: also measure six folds with one worker and with two, which takes two idle cores.
        folder: for the data; a temporary one when absent.
        out: where the results are written.
    """
    cores, figures = os.sched_getaffinity(0), list[Figure]()
    core = max(cores)
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench", dir=folder, ignore_cleanup_errors=True) as temporary:
        os.environ["TMPDIR"] = temporary  # what the candidates write goes there, whatever ends them
        machine = hardware(Path(temporary))
        say(", ".join(str(machine[key]) for key in ("date", "cpu", "cores", "memory_gb", "load")))
        os.sched_setaffinity(0, cores - {core} or {core})
        before = checkout(Path(temporary))
        made = Path(temporary) / "random.zarr"
        make_store(made, minutes)
        cases = {"7 x 512": store, "25 x 1024": made}
        for case, place in cases.items():
            if place is None:
                left_out(case, "--store is not given")
                continue
            fill(place)
            for fusion in FUSIONS:
                encoder = (whisper, audio) if place is store else None
                candidates = candidates_of(place, fusion, before, encoder)
                take_turns(candidates, rounds, core)
                found = figures_of(case, fusion, candidates)
                say_part(f"{case}, fusion={fusion}", "ours", found)
                figures += found
        if cold:
            figures += shown([f for case, p in cases.items() if p for f in cold_figures(case, p, "none", rounds, core)])
        os.sched_setaffinity(0, cores)
        if folds:
            figures += shown(folds_figures(store or made, rounds))
        machine["load_after"] = os.getloadavg()
    say_summary(figures)
    save(out, {"minutes": minutes, "rounds": rounds, "store": store and store.name}, machine, figures)


def candidates_of(
    store: Path, fusion: str, before: Path | None, encoder: tuple[Path | None, Path | None] | None
) -> list[Candidate]:
    """Return what is compared on a store."""
    found = [Candidate("ours", ["ours.py", str(store), fusion])]
    if before:
        found.append(Candidate("before", ["before.py", str(store), fusion], str(before)))
    else:
        left_out("before", f"the history lacks {BEFORE}")
    plain = ["plain.py", str(store), fusion, str(PLAIN_FRAMES)]
    found.append(Candidate("DataLoader", [*plain, "shuffled"]))
    if encoder:  # another one of a large encoder would take too much memory
        found.append(Candidate("DataLoader, our batches", [*plain, "ours"]))
    found.append(Candidate("limit", ["limit.py", str(store), fusion]))
    if encoder and all(encoder):
        for kind in ("windows", "trimmed"):
            found.append(Candidate(f"encoder, {kind}", ["encoder.py", *map(str, encoder), kind]))
    elif encoder:
        left_out("encoder", "--whisper or --audio is not given")
    return found


def checkout(folder: Path) -> Path | None:
    """Return a folder with the project as it was before; None if its history does not reach so far."""
    place = folder / "before"
    place.mkdir()
    archive = subprocess.run(["git", "archive", BEFORE], cwd=Path(__file__).parents[3], capture_output=True)
    if archive.returncode:
        return None
    subprocess.run(["tar", "-x"], cwd=place, input=archive.stdout, check=True)
    return place


def shown(figures: list[Figure]) -> list[Figure]:
    """Print some figures, part by part, and return them."""
    for part in dict.fromkeys(figure.part for figure in figures):
        say_part(part, "", [figure for figure in figures if figure.part == part])
    return figures


if __name__ == "__main__":
    run(app)
