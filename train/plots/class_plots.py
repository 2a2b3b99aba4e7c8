"""The pictures of a target with categories: confusion, ROC, precision and recall, calibration."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from train.evaluation.classes import Curve, Recognised
from train.numerics.metrics import BINS
from train.plots.drawing import as_label, blank, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LARGEST_SIDE = 20
"""Inches of a confusion matrix, of which two are side by side."""
MOST_NUMBERED = 50
"""Categories whose counts can be read in it."""
MOST_NAMED = 12
"""Categories that a legend names."""


def plot_classes(folder: Path, found: Recognised) -> None:
    """Write ``confusion_TARGET``, ``roc_TARGET``, ``precision_recall_TARGET`` and ``calibration_TARGET``."""
    plot_confusion(folder, found.target, found.classes, found.confusion)
    _plot_areas(folder, f"roc_{found.target}", found.roc, ("false positive rate", "true positive rate", "AUC"))
    _plot_areas(
        folder, f"precision_recall_{found.target}", found.precision_recall, ("recall", "precision", "average precision")
    )
    _plot_calibration(folder, found)


def plot_confusion(folder: Path, target: str, classes: list[str], counts: npt.NDArray[np.int64]) -> None:
    """Write ``confusion_TARGET``: counts, and shares of the true class, over all folds together.

    Args:
        folder: for it.
        target: the column.
        classes: by class number.
        counts: (classes, classes), true classes in rows.
    """
    shares = counts / counts.sum(axis=1, keepdims=True).clip(min=1)
    side = min(0.6 * len(classes), LARGEST_SIDE)
    figure = blank(2 * side + 3, side + 1.8)
    words = [as_label(name) for name in classes]
    for axes, values in zip(figure.subplots(1, 2), (counts, shares), strict=True):
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for (row, column), value in np.ndenumerate(values) if len(classes) <= MOST_NUMBERED else ():
            color = "white" if shares[row, column] > 0.6 else "black"
            text = str(value) if values is counts else f"{value:.2f}"
            axes.text(column, row, text, ha="center", va="center", color=color)
        axes.set(xlabel="predicted", ylabel="true", xticks=range(len(classes)), yticks=range(len(classes)))
        axes.set_title("utterances" if values is counts else "share of the true class")
        axes.set_xticklabels(words, rotation=45, ha="right")
        axes.set_yticklabels(words)
    save(figure, folder, f"confusion_{target}")


def _plot_areas(folder: Path, name: str, curves: Mapping[str, Curve], words: tuple[str, str, str]) -> None:
    """Draw a curve for each class, with the area in the legend."""
    across, up, area = words
    figure, axes = _unit_square(across, up)
    for number, (label, (x, y, found)) in enumerate(curves.items()):
        named = f"{as_label(label)} {found:.3f}" if number < MOST_NAMED else None
        axes.plot(x, y, drawstyle="default" if area == "AUC" else "steps-post", linewidth=1, label=named)
    if area == "AUC":
        axes.plot([0, 1], [0, 1], color="grey", linewidth=0.8, linestyle=":")
    if curves:
        mean = float(np.mean([found for _, _, found in curves.values()]))
        axes.legend(title=f"{area}, mean {mean:.3f}", loc="lower right" if area == "AUC" else "lower left", fontsize=7)
    save(figure, folder, name)


def _plot_calibration(folder: Path, found: Recognised) -> None:
    """Draw the accuracy of each bin of the confidence, and how many utterances it holds."""
    figure, axes = _unit_square("confidence", "accuracy")
    total = sum(one["utterances"] for one in found.calibration)
    places = [(one["low"] + one["high"]) / 2 for one in found.calibration]
    shares = [one["utterances"] / total for one in found.calibration]
    axes.bar(places, shares, 1 / BINS, color="lightgrey", label="share of the utterances")
    confidence, accuracy = ([one[word] for one in found.calibration] for word in ("confidence", "accuracy"))
    axes.plot(confidence, accuracy, "o-", color="tab:blue", markersize=3, linewidth=1, label="accuracy")
    axes.plot([0, 1], [0, 1], color="grey", linewidth=0.8, linestyle=":")
    axes.legend(loc="upper left", fontsize=7)
    save(figure, folder, f"calibration_{found.target}")


def _unit_square(across: str, up: str) -> tuple[Figure, Axes]:
    figure = blank(4, 4)
    axes = figure.subplots()
    axes.set(xlabel=across, ylabel=up, xlim=(0, 1), ylim=(0, 1.02), aspect="equal")
    return figure, axes
