"""A curve over the time of an utterance, below the level and the pitch of its voice where the store has them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from train.corpora import AnyStore
from train.drawing import as_label, blank, save
from train.metrics import Floats

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LEVELS = ("intensity", "logmel")
"""Features whose mean over the channels is the level of the voice, the first that a store has."""


def draw_curve(folder: Path, store: AnyStore, name: str, curve: pd.DataFrame) -> None:
    """Write ``curve_NAME`` as PNG and SVG.

    Args:
        folder: for it.
        store: with the utterance.
        name: of the utterance.
        curve: its rows of a `train.curves.tables.curves_table`, by chunk.
    """
    columns = [column for column in curve if column not in ("start", "time", "end")]
    figure = blank(7, 2.0 + 1.5 * len(columns))
    voice, *panels = figure.subplots(1 + len(columns), sharex=True)
    _draw_voice(voice, store, name)
    voice.set_title(as_label(name))
    for axes, column in zip(panels, columns, strict=True):
        axes.plot(curve["time"], curve[column], "o-", color="tab:red", markersize=3, linewidth=1.2)
        axes.set_ylabel(as_label(str(column)))
        if str(column).endswith("_rank"):
            axes.invert_yaxis()  # the first has most
    panels[-1].set_xlabel("time (s)")
    save(figure, folder, f"curve_{name}")


def _draw_voice(axes: Axes, store: AnyStore, name: str) -> None:
    for feature in LEVELS:
        if feature in store.parts:
            times, values = _read(store, feature, name)
            level = values.mean(axis=1)
            axes.fill_between(times, level.min(), level, color="tab:grey", alpha=0.4, linewidth=0)
            axes.set_ylabel(f"{feature} (mean)" if values.shape[1] > 1 else feature)
            break
    if "pitch" in store.parts and store.parts["pitch"].spec.channels[:1] == ("f0",):
        times, values = _read(store, "pitch", name)
        f0 = np.where(values[:, 0] > 0, values[:, 0], np.nan)
        beside = axes.twinx()
        beside.plot(times, f0, ".", color="tab:blue", markersize=2)
        beside.set_ylabel("F0 (Hz)", color="tab:blue")
        beside.spines["right"].set_visible(True)


def _read(store: AnyStore, feature: str, name: str) -> tuple[Any, Floats]:
    """Return the times of a feature in seconds, and its frames, (frames, dim)."""
    part = store.feature(feature)
    return part.times(name), np.asarray(part.read(name, None).decode()[0], np.float64)
