"""The pictures of a run: loss and score curves, predicted against true, confusion, layer weights."""

from __future__ import annotations

import warnings
from io import BytesIO
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from featurestore.command import printable
from train.examples import Examples
from train.files import write_whole
from train.loop import Variant

mpl.rcParams.update({"axes.spines.top": False, "axes.spines.right": False, "font.size": 9})

LARGEST_SIDE = 40
"""Inches of a confusion matrix."""
MOST_NUMBERED = 50
"""Categories whose counts can be read in it."""
LONGEST_LABEL = 30
"""Characters."""


def plot_curves(folder: Path, variants: list[Variant], metric: str) -> None:
    """Write ``loss.png`` and ``dev_METRIC.png``: a line per fold, a dot where its best epoch is."""
    for key, label, file in (("loss", "training loss", "loss"), ("dev", f"dev {metric}", f"dev_{metric.lower()}")):
        figure = Figure(figsize=(5, 3.2), layout="constrained")
        axes = figure.subplots()
        for variant in variants:
            curve = [epoch[key] for epoch in variant.history]
            axes.plot(range(1, len(curve) + 1), curve, color="tab:blue", alpha=0.35, linewidth=1)
            axes.plot(variant.best_epoch, curve[variant.best_epoch - 1], "o", color="tab:blue", markersize=3)
        axes.set(xlabel="epoch", ylabel=label)
        _save(figure, folder / f"{file}.png")


def plot_layer_weights(folder: Path, variants: list[Variant]) -> None:
    """Write ``layer_weights.png``: the mean over folds as bars, each fold as a dot."""
    weights = np.array([variant.model.layers.weights().detach().cpu().numpy() for variant in variants])
    layers = np.arange(weights.shape[1])
    figure = Figure(figsize=(max(3.5, 0.3 * len(layers) + 1.5), 3.2), layout="constrained")
    axes = figure.subplots()
    axes.bar(layers, weights.mean(axis=0), color="tab:blue", alpha=0.6)
    axes.plot(np.tile(layers, len(weights)), weights.ravel(), ".", color="black", markersize=3)
    axes.axhline(1 / len(layers), color="grey", linewidth=0.8, linestyle=":")
    axes.set(
        xlabel="layer (0: input of the transformer)", ylabel="softmax weight", xticks=layers[:: 1 + len(layers) // 26]
    )
    _save(figure, folder / "layer_weights.png")


def plot_predictions(folder: Path, examples: Examples, table: pd.DataFrame) -> None:
    """Write ``scatter.png`` of each dimension, or ``confusion.png`` of the categories."""
    if examples.classes:
        _plot_confusion(folder / "confusion.png", examples.classes, table)
        return
    figure = Figure(figsize=(3.2 * len(examples.ranges), 3.2), layout="constrained")
    panels = figure.subplots(1, len(examples.ranges), squeeze=False)[0]
    for axes, (target, scale) in zip(panels, examples.ranges.items(), strict=True):
        axes.plot(table[target], table[f"{target}_model"], ".", alpha=0.3, markersize=4)
        axes.plot(scale, scale, color="grey", linewidth=0.8)
        axes.set(xlabel=f"true {target}", ylabel=f"predicted {target}", xlim=scale, ylim=scale, aspect="equal")
    _save(figure, folder / "scatter.png")


def _plot_confusion(file: Path, classes: list[str], table: pd.DataFrame) -> None:
    found = pd.crosstab(table["emotion"], table["emotion_model"])
    counts = found.reindex(index=classes, columns=classes, fill_value=0).to_numpy(int)
    shares = counts / counts.sum(axis=1, keepdims=True).clip(min=1)
    side = min(0.6 * len(classes), LARGEST_SIDE)
    figure = Figure(figsize=(side + 2, side + 1.5), layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts) if len(classes) <= MOST_NUMBERED else ():
        dark = shares[row, column] > 0.6
        axes.text(column, row, str(count), ha="center", va="center", color="white" if dark else "black")
    axes.set(xlabel="predicted", ylabel="true", xticks=range(len(classes)), yticks=range(len(classes)))
    words = [_as_label(name) for name in classes]
    axes.set_xticklabels(words, rotation=45, ha="right")
    axes.set_yticklabels(words)
    _save(figure, file)


def _as_label(name: str) -> str:
    """Return the beginning of a name; what is between two $ would be set as a formula."""
    return printable(name)[:LONGEST_LABEL].replace("$", r"\$")


def _save(figure: Figure, file: Path) -> None:
    picture = BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # a letter that the font lacks is shown as a box
        figure.savefig(picture, format="png", dpi=150)
    write_whole(file, picture.getvalue())
