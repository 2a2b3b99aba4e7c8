"""The page of a report of a sweep: tables that can be sorted and filtered, and figures, in one file."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from typing import NamedTuple

import pandas as pd

from featurestore.shared.command import printable
from train.comparison.tables import once, rule
from train.plots.hovering import as_html, library
from train.sweep.methods import Found
from train.sweep.report.figures import figures
from train.sweep.report.tables import Findings, rounded

TITLES = {
    "variants": (
        "Leaderboard",
        "Every variant, the best on dev first: test, with 95 % intervals over speakers.",
    ),
    "methods": (
        "Methods",
        "The variants that differ in their seeds alone, together: test, with 95 % intervals over speakers and "
        "trainings; how much better than the best on dev.",
    ),
    "factors": ("Factors", "Each level over all levels of the other factors; difference from the level best on dev."),
    "probe": ("Layers", "Each layer alone, and those that hear several."),
    "checks": ("Protocol and audit", "How many variants have which."),
    "commands": ("Commands", "What makes each variant alone."),
}
"""Of the tables that the page shows; what is not here is drawn, and in the CSV files."""

FIRST = 2
"""Sections that are shown before the libraries are read, which takes most of the time: they come as plain tables."""
MOST_ROWS = 100
"""Of a table that are there at once: a page of many is slow to open; any number can be asked for, and printed."""

MENU: list[list[int | str]] = [[MOST_ROWS, -1], [MOST_ROWS, "all"]]
"""Numbers of rows that can be asked for, and what they are called."""


class Section(NamedTuple):
    """A table or a figure of the page; ``content`` is HTML."""

    kind: str
    title: str
    remark: str
    content: str


def page(findings: Findings) -> str:
    """Return the page, with all that it needs."""
    from jinja2 import Environment
    from markupsafe import Markup

    template = files("train.sweep.report").joinpath("page.html").read_text(encoding="utf-8")
    sections = [section._replace(content=Markup(section.content)) for section in _sections(findings)]
    checks = findings.checks
    return (
        Environment(autoescape=True)
        .from_string(template)
        .render(
            title=printable(f"Sweep {findings.folder.path.parent.name}, {findings.folder.path.name}"),
            libraries=Markup("\n".join(_libraries())),
            first=sections[:FIRST],
            states=", ".join(f"{count} {state}" for state, count in findings.states.items()),
            count=len(findings.variants),
            unfinished=set(findings.states) - {"done"},
            stores=", ".join(map(printable, findings.folder.note["stores"])),
            unsafe=checks["found"][checks["what"] == "unsafe"],
            sentence=printable(findings.sentence),
            notes=[] if isinstance(findings.found, str) else _notes(findings.found),
            sections=sections[FIRST:],
        )
    )


def _notes(found: Found) -> list[str]:
    lines = [rule(found.comparison), *once(found.comparison.systems), *found.comparison.left_out]
    if found.waiting:
        lines.append(f"not compared yet, with fewer trainings: {len(found.waiting)} methods")
    return [f"{printable(line[0].upper() + line[1:])}." for line in lines]


def _sections(findings: Findings) -> Iterator[Section]:
    tables = findings.tables
    first = [name for name in ("methods", "variants") if name in tables]
    yield from (_table(name, tables[name]) for name in first)
    for number, (title, figure) in enumerate(figures(findings)):
        yield Section("figure", title, "", as_html(figure, f"figure-{number}"))
    yield from (_table(name, tables[name]) for name in TITLES if name in tables and name not in first)


def _table(name: str, table: pd.DataFrame) -> Section:
    from itables import to_html_datatable

    title, remark = TITLES[name]
    paged = len(table) > MOST_ROWS
    html = to_html_datatable(
        _one_line(rounded(table, together=False)),
        table_id=f"table-{name}",
        connected=False,
        paging=paged,
        pageLength=MOST_ROWS,
        lengthMenu=MENU,
        layout={} if paged else {"topStart": None, "bottomStart": None, "bottomEnd": None},
        maxBytes=0,
        maxColumns=0,
        column_filters="footer",
        text_in_header_can_be_selected=False,  # so that a click anywhere on it sorts
        showIndex=False,
        display_logo_when_loading=False,
    )
    return Section("table-section", title, remark, f'<div class="table">{html}</div>')


def _one_line(table: pd.DataFrame) -> pd.DataFrame:
    return table.map(printable).rename(columns=lambda name: printable(str(name)))


def _libraries() -> Iterator[str]:
    from itables.javascript import generate_init_offline_itables_html
    from itables.options import dt_bundle

    yield library()
    yield generate_init_offline_itables_html(dt_bundle)
