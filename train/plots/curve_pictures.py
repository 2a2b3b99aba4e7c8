"""A curve over the time of an utterance, below the level and the pitch of its voice where the store has them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from train.evaluation.curve_tables import ranked, targets_of
from train.plots.drawing import as_label, blank, save
from train.plots.voice import level_of, pitch_of
from train.reading.corpora import AnyStore

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_curve(folder: Path, store: AnyStore, name: str, curve: pd.DataFrame) -> None:
    """Write ``curve_NAME`` as PNG and SVG.

    Args:
        folder: for it.
        store: with the utterance.
        name: of the utterance.
        curve: its rows of a `train.evaluation.curve_tables.curves_table`, by chunk.
    """
    columns = targets_of(curve)
    figure = blank(7, 2.0 + 1.5 * len(columns))
    voice, *panels = figure.subplots(1 + len(columns), sharex=True)
    _draw_voice(voice, store, name)
    voice.set_title(as_label(name))
    for axes, column in zip(panels, columns, strict=True):
        axes.plot(curve["time"], curve[column], "o-", color="tab:red", markersize=3, linewidth=1.2)
        axes.set_ylabel(as_label(column))
        if ranked(column):
            axes.invert_yaxis()  # the first has most
    panels[-1].set_xlabel("time (s)")
    save(figure, folder, f"curve_{name}")


def _draw_voice(axes: Axes, store: AnyStore, name: str) -> None:
    level, pitch = level_of(store, name), pitch_of(store, name)
    if level is not None:
        axes.fill_between(level.times, level.values.min(), level.values, color="tab:grey", alpha=0.4, linewidth=0)
        axes.set_ylabel(level.name)
    if pitch is not None:
        beside = axes.twinx()
        beside.plot(pitch.times, pitch.values, ".", color="tab:blue", markersize=2)
        beside.set_ylabel(pitch.name, color="tab:blue")
        beside.spines["right"].set_visible(True)
