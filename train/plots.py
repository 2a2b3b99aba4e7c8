"""The pictures of a run: loss and score curves, predicted against true, confusion, layer weights."""

from __future__ import annotations

import warnings
from io import BytesIO
from pathlib import Path
from urllib.parse import quote

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from featurestore.command import printable
from train.examples import Examples
from train.files import write_whole
from train.folder import UNSAFE
from train.labels import Scale
from train.tasks.classification import ClassificationGoal
from train.tasks.regression import RegressionGoal

mpl.rcParams.update({"axes.spines.top": False, "axes.spines.right": False, "font.size": 9})

LARGEST_SIDE = 40
"""Inches of a confusion matrix."""
MOST_NUMBERED = 50
"""Categories whose counts can be read in it."""
LONGEST_LABEL = 30
"""Characters."""


def plot_curves(folder: Path, histories: list[list[dict[str, float]]], best_epochs: list[int]) -> None:
    """Write ``loss.png`` and ``dev.png``: a line per model, a dot where its best epoch is."""
    for key, label in (("loss", "training loss"), ("dev", "dev score")):
        figure = Figure(figsize=(5, 3.2), layout="constrained")
        axes = figure.subplots()
        for history, best in zip(histories, best_epochs, strict=True):
            curve = [epoch[key] for epoch in history]
            axes.plot(range(1, len(curve) + 1), curve, color="tab:blue", alpha=0.35, linewidth=1)
            axes.plot(best, curve[best - 1], "o", color="tab:blue", markersize=3)
        axes.set(xlabel="epoch", ylabel=label)
        _save(figure, folder / f"{key}.png")


def plot_layer_weights(folder: Path, learned: list[dict[str, list[float]]]) -> None:
    """Write ``layer_weights.png``: a panel per stream, the mean over models as bars, each model as a dot."""
    streams = list(learned[0])
    if not streams:
        return
    count = max(len(learned[0][stream]) for stream in streams)
    figure = Figure(figsize=(max(3.5, 0.3 * count + 1.5), 3.2 * len(streams)), layout="constrained")
    for axes, stream in zip(figure.subplots(len(streams), squeeze=False)[:, 0], streams, strict=True):
        weights = np.array([of[stream] for of in learned])
        layers = np.arange(weights.shape[1])
        axes.bar(layers, weights.mean(axis=0), color="tab:blue", alpha=0.6)
        axes.plot(np.tile(layers, len(weights)), weights.ravel(), ".", color="black", markersize=3)
        axes.axhline(1 / len(layers), color="grey", linewidth=0.8, linestyle=":")
        axes.set(xlabel=f"layer of {_as_label(stream)} (0: input of the transformer)", ylabel="softmax weight")
        axes.set_xticks(layers[:: 1 + len(layers) // 26])
    _save(figure, folder / "layer_weights.png")


def plot_predictions(folder: Path, examples: Examples, table: pd.DataFrame) -> None:
    """Write ``scatter.png`` of the numbers, and ``confusion_TARGET.png`` of each target with categories."""
    ranges: dict[str, Scale] = {}
    for goal in examples.goals.values():
        if isinstance(goal, ClassificationGoal):
            file = folder / f"confusion_{quote(goal.target, safe=' ')}.png"
            _plot_confusion(file, goal.classes, table[goal.target], table[f"{goal.target}_model"])
        elif isinstance(goal, RegressionGoal):
            ranges |= goal.ranges
    if not ranges:
        return
    figure = Figure(figsize=(3.2 * len(ranges), 3.2), layout="constrained")
    panels = figure.subplots(1, len(ranges), squeeze=False)[0]
    for axes, (target, scale) in zip(panels, ranges.items(), strict=True):
        axes.plot(table[target], table[f"{target}_model"], ".", alpha=0.3, markersize=4)
        axes.plot(scale, scale, color="grey", linewidth=0.8)
        name = _as_label(target)
        axes.set(xlabel=f"true {name}", ylabel=f"predicted {name}", xlim=scale, ylim=scale, aspect="equal")
    _save(figure, folder / "scatter.png")


def _plot_confusion(file: Path, classes: list[str], true: pd.Series, predicted: pd.Series) -> None:
    found = pd.crosstab(true, predicted)
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
    if (file.parent / UNSAFE).exists():
        text = printable((file.parent / UNSAFE).read_text().strip())
        figure.suptitle(text, color="red", fontsize=7)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # a letter that the font lacks is shown as a box
        figure.savefig(picture, format="png", dpi=150)
    write_whole(file, picture.getvalue())
