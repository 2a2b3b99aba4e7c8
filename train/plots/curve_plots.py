"""Curves of a few utterances as they are drawn: a picture of each, and one page with all of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from train.plots.curve_pictures import draw_curve
from train.plots.curves_page import write_page
from train.reading.corpora import AnyStore


def draw_curves(folder: Path, store: AnyStore, curves: Mapping[str, pd.DataFrame]) -> None:
    """Write ``curve_NAME`` of each utterance as PNG and SVG, and ``curves.html``; nothing where there are none.

    Args:
        folder: for them.
        store: with the utterances.
        curves: by name, the rows of each of a `train.evaluation.curve_tables.curves_table`.
    """
    for name, curve in curves.items():
        draw_curve(folder, store, name, curve)
    if curves:
        write_page(folder, store, curves)
