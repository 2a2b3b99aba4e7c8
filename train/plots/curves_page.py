"""Curves that can be hovered over: one HTML file that needs nothing else, and says the time under the mouse."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from featurestore.shared.command import printable
from train.evaluation.curve_tables import ranked, targets_of
from train.plots.drawing import stamp_of
from train.plots.hovering import as_html, library
from train.plots.voice import Track, level_of, pitch_of
from train.reading.corpora import AnyStore
from train.shared.files import write_whole

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

PAGE = "curves.html"
WIDTH, PANEL, EDGES = 1000, 150, 90
"""Pixels of a figure, of a panel of it, and of what is above and below them."""
GAP = 0.06
"""Between panels, as a share of one."""
SPIKE = {"showspikes": True, "spikemode": "across", "spikesnap": "cursor", "spikethickness": 1}
"""A line through all panels."""
GREY, BLUE, RED = "#888888", "#0072b2", "#d55e00"


def write_page(folder: Path, store: AnyStore, curves: Mapping[str, pd.DataFrame]) -> None:
    """Write ``curves.html``: of each utterance its level and pitch, where the store has them, above its curves.

    Args:
        folder: for it.
        store: with the utterances.
        curves: by name, the rows of each of a `train.evaluation.curve_tables.curves_table`.
    """
    from jinja2 import Environment
    from markupsafe import Markup

    template = files("train.plots").joinpath("curves_page.html").read_text(encoding="utf-8")
    sections = [
        (printable(name), Markup(as_html(curves_figure(store, name, curve), f"curve-{number}")))
        for number, (name, curve) in enumerate(curves.items())
    ]
    page = Environment(autoescape=True).from_string(template)
    html = page.render(stamp=stamp_of(folder), library=Markup(library()), sections=sections)
    write_whole(folder / PAGE, html)


def curves_figure(store: AnyStore, name: str, curve: pd.DataFrame) -> Figure:
    """Return the figure of an utterance: panels above each other on one axis of time."""
    from plotly.graph_objects import Figure

    columns, voice, figure = targets_of(curve), (level_of(store, name), pitch_of(store, name)), Figure()
    count = len(columns) + any(voice)
    panels = iter([1 - (number + 1 - GAP) / count, 1 - number / count] for number in range(count))
    axes: dict[str, Any] = {}
    if any(voice):
        axes = _draw_voice(figure, *voice, next(panels))
    for number, (column, panel) in enumerate(zip(columns, panels, strict=True), 1 + sum(map(bool, voice))):
        track = Track(printable(column), curve["time"].to_numpy(float), curve[column].to_numpy(float))
        digits, way = (".0f", "reversed") if ranked(column) else (".3f", True)  # the first has most
        _track(figure, track, number, digits, mode="lines+markers", line={"color": RED}, marker={"size": 5})
        axes[f"yaxis{number}"] = {"domain": panel, "title": track.name, "autorange": way}
    figure.update_layout(
        **axes,
        template="simple_white",
        width=WIDTH,
        height=EDGES + PANEL * count,
        margin={"l": 70, "r": 70, "t": 10, "b": 50},
        showlegend=False,
        hovermode="x unified",
        hoversubplots="axis",
        xaxis={"title": "time (s)", "unifiedhovertitle": {"text": "%{x:.3f} s"}, "anchor": f"y{len(axes)}", **SPIKE},
    )
    return figure


def _draw_voice(figure: Figure, level: Track | None, pitch: Track | None, panel: list[float]) -> dict[str, Any]:
    """Draw them into one panel, and return its axes."""
    axes: dict[str, Any] = {}
    if level is not None:
        floor = level._replace(values=np.full_like(level.values, level.values.min()))
        _track(figure, floor, 1, line={"width": 0}, hoverinfo="skip")
        _track(figure, level, 1, line={"color": GREY, "width": 1}, fill="tonexty")
        axes["yaxis"] = {"domain": panel, "title": level.name}
    if pitch is not None:
        number = 1 + len(axes)
        _track(figure, pitch, number, ".0f", mode="markers", marker={"color": BLUE, "size": 4})
        beside = {"overlaying": "y", "side": "right"} if axes else {"domain": panel}
        axes[f"yaxis{number}"] = {"title": pitch.name, "color": BLUE, "tickformat": ".0f", **beside}
    return axes


def _track(figure: Figure, track: Track, axis: int, digits: str = ".3f", **settings: Any) -> None:
    said = None if settings.get("hoverinfo") == "skip" else f"%{{y:{digits}}}"
    figure.add_scatter(
        x=track.times.round(4), y=track.values, xaxis="x", yaxis=f"y{axis}", name=track.name, hovertemplate=said,
        **{"mode": "lines", **settings},
    )  # fmt: skip
