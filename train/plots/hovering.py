"""Plotly's figures in HTML pages that need nothing else, and say what is under the mouse."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

QUIET = {"displaylogo": False, "plotlyServerURL": ""}
"""Of plotly: no link to its makers."""


def as_html(figure: Figure, name: str) -> str:
    """Return a figure as an element with this id, for a page that has the `library`."""
    html: str = figure.to_html(full_html=False, include_plotlyjs=False, div_id=name, config=QUIET)
    return html


def library() -> str:
    """Return plotly's JavaScript, all of it, as an element of a page."""
    from plotly.offline import get_plotlyjs

    return f"<script>{get_plotlyjs()}</script>"
