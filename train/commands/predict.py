"""The predictions of a run for a store, as a CSV file."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from train.reading.corpora import open_stores
from train.reading.labels import grouped
from train.running.opened import Run
from train.shared.files import write_whole


def write_predictions(
    run: Path, stores: Sequence[str], out: Path | None, device: str | None, say: Callable[[str], None]
) -> dict[str, str]:
    """Write what a run predicts for some stores, and return the utterances that it cannot predict, with the reason.

    Args:
        run: its folder.
        stores: paths or URLs.
        out: the file; standard output when absent.
        device: that predicts; that of the run when absent.
        say: says a line.
    """
    table, skipped = Run.open(run, device).predict_all(open_stores(stores))
    if out is None:
        sys.stdout.write(table.to_csv())
        return skipped
    write_whole(out, table.to_csv())
    say(f"{out}: {len(table)} utterances")
    if "lacks" in table:
        lacking = table["lacks"][table["lacks"] != ""]
        for line in grouped((str(name), f"lack {streams}, heard by the others") for name, streams in lacking.items()):
            say(line)
    for line in grouped(skipped.items()):
        say(f"skipped: {line}")
    return skipped
