"""The store beside np.memmap, plain files, HDF5, Zarr, tensorstore, safetensors and lhotse, in one run.

python tests/benchmarks/store [--quick] [--gb 1] [--utterances 150000] [--states STORE] [--folder DIR] [--out DIR]

Prints each figure beside its target, and writes them as JSON and as a picture. What is not installed is left out and
named: pip install -r tests/benchmarks/store/requirements.txt
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from cold import cold
from cyclopts import App
from measure import alone, sync
from opening import opening
from report import Figure, hardware, save, say_part, say_summary
from shuffling import shuffles
from states import Data, make_raw, make_store
from warm import warm
from writing import sizes, writing

from featurestore.shared.command import run, say

app = App(name="bench", help=__doc__)


@app.default
def main(
    *,
    gb: float = 1.0,
    utterances: int = 150_000,
    states: Path | None = None,
    folder: Path | None = None,
    out: Path = Path("runs/benchmarks/store"),
    quick: bool = False,
) -> None:
    """Measure everything.

    Args:
        gb: of hidden states, 10**9 bytes.
        utterances: of the store that is opened.
        states: a store whose hidden states are tiled; those of an untrained encoder on synthetic speech when absent.
        folder: for the data, some five times their size; a temporary one when absent.
        out: where the results are written.
        quick: small data and few rounds: to see that all of it runs.
    """
    if quick:
        gb, utterances = min(gb, 0.1), min(utterances, 3000)
    source = "hubert-tiny-untrained on synthetic speech" if states is None else states.name
    settings = {"gb": gb, "utterances": utterances, "states": source, "quick": quick}
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench", dir=folder, ignore_cleanup_errors=True) as temporary:
        machine, start = hardware(Path(temporary)), time.perf_counter()
        say(", ".join(str(machine[key]) for key in ("date", "cpu", "cores", "memory_gb", "disk", "load")))
        data = Data(Path(temporary))
        figures = measure(data, round(gb * 1e9), utterances, states, quick)
        machine["minutes"] = round((time.perf_counter() - start) / 60, 1)
    say_summary(figures)
    save(out, settings, machine, figures)


def measure(data: Data, size: int, utterances: int, states: Path | None, quick: bool) -> list[Figure]:
    """Make the data and return all figures, each part printed when it is there."""
    rounds, cold_rounds, seconds = (2, 1, 0.2) if quick else (5, 4, 2.0)
    alone(make_raw, data.folder, size, states)
    for form in (".zarr", ".h5"):
        alone(make_store, data, data.folder / f"store{form}")
    sync(data.folder)
    hours = sum(data.frames) / 50 / 3600
    say(f"{len(data.frames)} utterances, {hours:.2f} h, {data.raw.stat().st_size / 1e9:.2f} GB of float16")
    parts = {
        "np.memmap": [
            lambda: warm(data, rounds, seconds),
            lambda: cold(data, cold_rounds),
            lambda: shuffles(data, cold_rounds, seconds, utterances),
        ],
        "plain files": [lambda: writing(data, cold_rounds), lambda: sizes(data)],
        "": [lambda: opening(data.folder, utterances, cold_rounds)],
    }
    figures: list[Figure] = []
    for baseline, measurements in parts.items():
        for measurement in measurements:
            found = measurement()
            for part in dict.fromkeys(figure.part for figure in found):
                say_part(part, baseline, [figure for figure in found if figure.part == part])
            figures += found
    return figures


if __name__ == "__main__":
    run(app)
