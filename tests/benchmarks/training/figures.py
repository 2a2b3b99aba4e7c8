"""What was measured, beside its targets: as a table, and as JSON and Markdown files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from report import Check, Figure, rounded
from turns import GIGA, Candidate, ratios

from featurestore.shared.command import say

LEAST = {
    ("7 x 512", "before"): 1.3,
    ("25 x 1024", "before"): 5.0,
    ("7 x 512", "DataLoader"): 3.0,
    ("25 x 1024", "DataLoader"): 3.0,
    ("7 x 512", "encoder, windows"): 100.0,
    ("7 x 512", "encoder, trimmed"): 20.0,
}
"""How many times as long as ours others take."""
MOST = {"7 x 512": 1.5, "25 x 1024": 2.0}
"""How many times as long as the limit ours takes."""
MOST_GB = {"25 x 1024": 2.0}
PACKAGES = ("torch", "numpy", "numba", "transformers")


def figures_of(case: str, fusion: str, candidates: list[Candidate]) -> list[Figure]:
    """Return a figure for each candidate."""
    own = candidates[0]
    return [_figure(case, f"{case}, fusion={fusion}", own, candidate) for candidate in candidates]


def left_out(name: str, reason: str) -> None:
    """Say that something is not measured."""
    say(f"left out: {name}: {reason}")


def _figure(case: str, part: str, own: Candidate, candidate: Candidate) -> Figure:
    if not candidate.laps:
        return Figure(part, candidate.name, None, candidate.error, "others")
    epoch, found = median(candidate.microseconds()), ratios(own, candidate)
    seconds = epoch * own.laps[0]["frames"] / 1e6
    wall = median(candidate.microseconds("wall")) / epoch
    unit = f"us/frame; {rounded(seconds)} s an epoch; {candidate.peak / GIGA:.2f} GB"
    unit += f"; ratio {rounded(min(found))} to {rounded(max(found))}; wall x {wall:.2f}"
    raw = {"laps": candidate.laps, "peak_bytes": candidate.peak, "seconds_per_epoch": seconds, "ratios": found}
    group = "ours" if candidate is own else "others"
    return Figure(part, candidate.name, epoch, unit, group, median(found), _checks(case, own, candidate, found), raw)


def _checks(case: str, own: Candidate, candidate: Candidate, found: list[float]) -> list[Check]:
    checks = []
    if candidate is own and case in MOST_GB:
        checks.append(Check("GB", candidate.peak / GIGA, most=MOST_GB[case]))
    if (case, candidate.name) in LEAST:
        checks.append(Check("x ours", median(found), least=LEAST[case, candidate.name]))
    if candidate.name == "limit":
        checks.append(Check("ours x the limit", median(1 / ratio for ratio in found), most=MOST[case]))
    return checks


def save(folder: Path, settings: dict[str, Any], machine: dict[str, Any], figures: Sequence[Figure]) -> None:
    """Write ``results.json`` and ``results.md``."""
    folder.mkdir(parents=True, exist_ok=True)
    machine["packages"] = {name: version(name) for name in PACKAGES}
    lines = [{**asdict(f), "checks": [{**asdict(check), "met": check.met} for check in f.checks]} for f in figures]
    document = {"machine": machine, "settings": settings, "figures": lines}
    (folder / "results.json").write_text(json.dumps(document, indent=1) + "\n")
    cpu, load = machine["cpu"], ", ".join(f"{part:.1f}" for part in machine["load"])
    head = f"{machine['date']}, {cpu}, one core; load before {load}; times of the processor, medians\n\n"
    (folder / "results.md").write_text(head + _markdown(figures))
    say(f"written: {folder / 'results.json'}, {folder / 'results.md'}")


def _markdown(figures: Sequence[Figure]) -> str:
    rows = ["| case | | time | | x ours | target |", "|---|---|---|---|---|---|"]
    for f in figures:
        value, ratio = (rounded(x) if x is not None else "-" for x in (f.value, f.ratio))
        checks = "; ".join(f"{check}{'' if check.met else ' MISSED'}" for check in f.checks)
        rows.append(f"| {f.part} | {f.name} | {value} | {f.unit} | {ratio} | {checks} |")
    return "\n".join(rows) + "\n"
