"""The figures of a report of a sweep, which can be hovered over and zoomed into."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from train.sweep.report.tables import Findings

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

Titled = tuple[str, "Figure"]
MOST = 40
"""Methods that a figure shows, the best on dev; the tables have all."""
MOST_POINTS, MOST_CURVES, MOST_TEXTS = 2_000, 8, 200
WIDTH, ROW, LETTER = 960, 18, 6.5
"""Pixels of a figure, of a row of it, and of a letter of its name."""
COLOURS = {"best on dev": "#d55e00", "not told apart": "#e69f00", "worse": "#0072b2", "better": "#009e73"}
"""Of methods, by what they are beside the best one; those of Okabe and Ito, which all can tell apart."""
OTHER = "#666666"
LAYOUT = {
    "margin": {"l": 60, "r": 10, "t": 40, "b": 40},
    "width": WIDTH,
    "template": "simple_white",
    "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom"},
}


def figures(findings: Findings) -> list[Titled]:
    """Return all figures for which there is something to show, with their titles."""
    if not findings.results:
        return []
    makers = (_methods, _factors, _probe, _weights, _dev_against_test, _time, _classes, _speakers)
    return [figure for maker in makers for figure in maker(findings)]


def _methods(findings: Findings) -> Iterator[Titled]:
    table, target = findings.methods.head(MOST), findings.target
    figure = _figure(ROW * len(table) + 120, _scale(findings))
    words = table["beside the best"] if "beside the best" in table else pd.Series("", table.index)
    for word, rows in table.groupby(words.fillna(""), sort=False):
        bars = _bars(rows, target)
        marker = {"color": COLOURS.get(str(word).removesuffix(" as trained"), OTHER)}
        name = str(word) or "not compared"
        figure.add_scatter(
            x=rows[target], y=rows["method"], error_x=bars, mode="markers", marker=marker, name=name, hoverinfo="x+y"
        )
    _name_rows(figure, table["method"].tolist())
    yield f"Methods, the best on dev above{_of_all(findings.methods)}: test, with 95 % intervals", figure


def _factors(findings: Findings) -> Iterator[Titled]:
    table, target = findings.factors, findings.target
    for effect in findings.effects:
        rows = table[table["factor"] == effect.factor].head(MOST)
        figure = _figure(ROW * 2 * len(rows) + 120, _scale(findings))
        values = findings.variants.set_index("variant")[target]
        points = [(values[one.number], level.name, one.name) for level in effect.levels for one in level.variants]
        x, y, names = zip(*points[:MOST_POINTS], strict=True)
        figure.add_scatter(
            x=x, y=y, text=names, mode="markers", name="a variant", marker={"color": OTHER, "opacity": 0.3, "size": 6}
        )
        figure.add_scatter(
            x=rows[target], y=rows["level"], error_x=_bars(rows, target), mode="markers", name="mean over its variants",
            marker={"color": COLOURS["best on dev"], "size": 9},
        )  # fmt: skip
        _name_rows(figure, rows["level"].tolist())
        yield f"What {effect.factor} does, over all levels of the other factors: test", figure


def _probe(findings: Findings) -> Iterator[Titled]:
    table = findings.probe
    if not len(table):
        return
    figure = _figure(460, "layer", _scale(findings))
    colours = [*COLOURS.values(), OTHER]
    best = table.groupby("curve")["dev"].max().nlargest(MOST_CURVES).index
    numbers = sorted(table["layer"].dropna().astype(int).unique().tolist())
    levels = table.loc[table["layer"].isna(), "level"].unique().tolist()
    beside = {level: max(numbers) + (place + 1) * max(1, len(numbers) / 12) for place, level in enumerate(levels)}
    for number, curve in enumerate(best):
        rows = table[table["curve"] == curve]
        colour = colours[number % len(colours)]
        single, several = rows[rows["layer"].notna()], rows[rows["layer"].isna()]
        named = f", {curve}" if curve else ""
        layers = single["layer"].astype(int)
        for what, dash in ((findings.target, "solid"), ("dev", "dot")):
            bars = _bars(single, what)
            figure.add_scatter(
                x=layers, y=single[what], error_y=bars, mode="lines+markers", line={"color": colour, "dash": dash},
                name=f"{'test' if what != 'dev' else 'dev'}{named}",
            )  # fmt: skip
        figure.add_scatter(
            x=several["level"].map(beside), y=several[findings.target], error_y=_bars(several, findings.target),
            mode="markers", marker={"color": colour, "symbol": "diamond", "size": 9}, showlegend=False,
            name=f"test{named}",
        )  # fmt: skip
    ticks = [*numbers, *beside.values()]
    figure.update_xaxes(tickvals=ticks, ticktext=[*map(str, numbers), *beside])
    several = f" (the {MOST_CURVES} best on dev)" if table["curve"].nunique() > MOST_CURVES else ""
    yield f"Each layer alone, and together{several}", figure


def _weights(findings: Findings) -> Iterator[Titled]:
    table = findings.layer_weights
    names = {one.number: method.name for method in findings.methods_done for one in method.variants}
    for (stream, target), rows in table.groupby(["stream", "target"], sort=False):
        rows = rows.assign(method=rows["variant"].map(names))
        means = rows.pivot_table(index=["method", "fold"], columns="layer", values="weight", sort=False)
        order = [name for name in findings.methods["method"] if name in set(rows["method"])][:MOST]
        means = means.loc[order]
        labels = [f"{method}, fold {fold}" for method, fold in means.index]
        of = f"{stream} for {target}" if target else stream
        title = f"What weights the layers of {of} have learned, mean over seeds and members"
        yield title, _heat_map(means.to_numpy(), [*map(str, means.columns)], labels, "layer", "Blues")


def _dev_against_test(findings: Findings) -> Iterator[Titled]:
    done = findings.variants[findings.variants["state"] == "done"]
    figure = _figure(460, "dev, the score that selects", _scale(findings))
    for name, rows in _by_first_factor(findings, done):
        figure.add_scatter(
            x=rows["dev"], y=rows[findings.target], text=_names(findings, rows), mode="markers", name=name
        )
    yield "Dev against test: what was selected by, and what it gave", figure


def _time(findings: Findings) -> Iterator[Titled]:
    done = findings.variants[(findings.variants["state"] == "done") & findings.variants["seconds"].notna()]
    if not len(done):
        return
    figure = _figure(460, "seconds of one core", _scale(findings))
    for name, rows in _by_first_factor(findings, done):
        words = [f"{text}, {mb:.1f} MB a pass" for text, mb in zip(_names(findings, rows), rows["MB"], strict=True)]
        figure.add_scatter(x=rows["seconds"], y=rows[findings.target], text=words, mode="markers", name=name)
    yield "Time against test", figure


def _classes(findings: Findings) -> Iterator[Titled]:
    for target, rows in findings.classes.groupby("target") if len(findings.classes) else ():
        yield (
            f"Recall of each class of {target}{_of_all(findings.methods)}",
            _by_method(findings, rows, "class", "recall"),
        )


def _speakers(findings: Findings) -> Iterator[Titled]:
    for (target, metric), rows in findings.speakers.groupby(["target", "metric"]) if len(findings.speakers) else ():
        yield (
            f"{target} {metric} of each speaker{_of_all(findings.methods)}",
            _by_method(findings, rows, "speaker", "value"),
        )


def _by_method(findings: Findings, rows: pd.DataFrame, column: str, value: str) -> Figure:
    """Return a heat map of a value, mean over the variants of each method, the best on dev above."""
    names = {one.number: method.name for method in findings.methods_done for one in method.variants}
    table = rows.assign(method=rows["variant"].map(names), **{value: rows[value].astype(float)})
    means = table.pivot_table(index="method", columns=column, values=value, dropna=False)
    means = means.reindex([name for name in findings.methods["method"] if name in means.index][:MOST])
    return _heat_map(means.to_numpy(), [*map(str, means.columns)], [*means.index], column, "Blues")


def _heat_map(values: Any, x: list[str], y: list[str], title: str, colours: str) -> Figure:
    figure = _figure(ROW * len(y) + 140, title)
    texts = [[f"{value:.2f}" if value == value else "" for value in row] for row in values]
    shown = texts if values.size <= MOST_TEXTS else None
    figure.add_heatmap(
        z=np.where(np.isnan(values), None, values), x=x, y=y, colorscale=colours, text=shown,
        texttemplate="%{text}" if shown else None, hovertemplate="%{y}<br>%{x}: %{z:.3f}<extra></extra>",
    )  # fmt: skip
    figure.update_xaxes(type="category")
    _name_rows(figure, y)
    return figure


def _by_first_factor(findings: Findings, rows: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield the variants by their level of the first factor, if it has few of them."""
    factors = [factor.name for factor in findings.folder.config.factors]
    if factors and factors[0] in rows and rows[factors[0]].nunique() <= MOST:
        for level, of in rows.groupby(rows[factors[0]].fillna("")):
            yield f"{factors[0]}={level}" if level else "other", of
    else:
        yield "a variant", rows


def _names(findings: Findings, rows: pd.DataFrame) -> list[str]:
    return [findings.folder.variant(number).name for number in rows["variant"]]


def _bars(rows: pd.DataFrame, target: str) -> dict[str, Any] | None:
    if f"{target}_low" not in rows:
        return None
    below, above = rows[target] - rows[f"{target}_low"], rows[f"{target}_high"] - rows[target]
    return {"type": "data", "symmetric": False, "array": above.fillna(0), "arrayminus": below.fillna(0), "thickness": 1}


def _scale(findings: Findings) -> str:
    metric = findings.metrics[findings.target]
    if metric:
        return f"test, {findings.target} {metric}"
    *targets, _ = findings.metrics
    kinds = {findings.metrics[target] for target in targets}
    return f"test, mean {kinds.pop() if len(kinds) == 1 else ''} of {', '.join(targets)}".replace("  ", " ")


def _name_rows(figure: Figure, names: list[str]) -> None:
    """Give a figure rows of these names from above; its margin is as wide as they are, which plotly finds slowly."""
    figure.update_yaxes(type="category", categoryorder="array", categoryarray=names[::-1])
    figure.update_layout(margin_l=30 + LETTER * max(map(len, names), default=0))


def _of_all(methods: pd.DataFrame) -> str:
    return f" (of {len(methods)} methods the {MOST} best on dev)" if len(methods) > MOST else ""


def _figure(height: int, x: str, y: str = "") -> Figure:
    from plotly.graph_objects import Figure

    figure = Figure()
    figure.update_layout(height=height, xaxis_title=x, yaxis_title=y, **LAYOUT)
    return figure
