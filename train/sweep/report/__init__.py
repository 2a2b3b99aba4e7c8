"""The report of a sweep: one HTML file that needs nothing else, and the same as CSV and LaTeX."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from train.comparison.tables import escaped, tabular
from train.shared.files import write_whole
from train.sweep.folder import SweepFolder
from train.sweep.report.tables import Findings, rounded

FOLDER = "report"
IN_LATEX = ("methods", "factors", "probe")
"""Tables that are also written for a paper."""


def write_report(folder: SweepFolder) -> Path:
    """Write the report of a sweep from its files alone, and return the path of its page.

    ``report/`` below the folder of the sweep then holds ``report.html``, ``report.tex`` and a CSV file for each table.
    It can be made while the sweep runs: it says how many variants it is of.

    Raises:
        SerError: if it is no sweep, or a file is damaged, or cannot be written.
    """
    from train.sweep.report.page import page

    findings = Findings(folder)
    tables = findings.tables
    place = folder.path / FOLDER
    for name, table in tables.items():
        write_whole(place / f"{name}.csv", table.to_csv(index=False))
    write_whole(place / "report.tex", as_latex(findings))
    write_whole(place / "report.html", page(findings))
    return place / "report.html"


def as_latex(findings: Findings) -> str:
    """Return what can be told apart as a comment, and the tables of methods, factors and layers."""
    lines = [f"% {findings.sentence}"]
    for name in IN_LATEX:
        if name in findings.tables:
            header, *rows = _cells(findings.tables[name])
            lines += ["", f"% {name}", *tabular(header, rows)]
    return "\n".join([*lines, ""])


def _cells(table: pd.DataFrame) -> list[list[str]]:
    texts = rounded(table)
    rows: list[list[object]] = [list(texts.columns), *texts.to_numpy().tolist()]
    return [[escaped(str(cell)) for cell in row] for row in rows]
