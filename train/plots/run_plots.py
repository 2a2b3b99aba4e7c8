"""The pictures of a run: loss and score curves, layer weights, predicted against true; see also `plot_classes`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from train.evaluation.classes import recognised
from train.evaluation.tested import Tested
from train.fronts import LayerWeights, by_stream_and_target
from train.plots.class_plots import plot_classes
from train.plots.drawing import as_label, blank, save
from train.tasks.regression import RegressionGoal


def plot_run(folder: Path, notes: list[dict[str, Any]], tested: Tested, table: pd.DataFrame) -> None:
    """Write the pictures of a run, each as PNG and SVG.

    Args:
        folder: for them.
        notes: what each model learned.
        tested: the test parts of all folds, predicted by the system ``model``.
        table: of its predictions, see `train.evaluation.evaluate.predictions_table`.
    """
    plot_curves(folder, [note["history"] for note in notes], [note["best_epoch"] for note in notes])
    plot_layer_weights(folder, [note["layer_weights"] for note in notes])
    plot_numbers(folder, tested, table)
    for one in recognised(tested, "model"):
        plot_classes(folder, one)


def plot_curves(folder: Path, histories: list[list[dict[str, float]]], best_epochs: list[int]) -> None:
    """Write ``loss`` and ``dev``: a line per model, a dot where its best epoch is."""
    for key, label in (("loss", "training loss"), ("dev", "dev score")):
        figure = blank(5, 3.2)
        axes = figure.subplots()
        for history, best in zip(histories, best_epochs, strict=True):
            curve = [epoch[key] for epoch in history]
            axes.plot(range(1, len(curve) + 1), curve, color="tab:blue", alpha=0.35, linewidth=1)
            axes.plot(best, curve[best - 1], "o", color="tab:blue", markersize=3)
        axes.set(xlabel="epoch", ylabel=label)
        save(figure, folder, key)


def plot_layer_weights(folder: Path, learned: list[dict[str, LayerWeights]]) -> None:
    """Write ``layer_weights``: mean and deviation over folds and members, each model as a dot.

    There is a panel for each stream, or for each of its targets where these have weights of their own.
    """
    models = [by_stream_and_target(one) for one in learned]
    panels = models[0]
    if not panels:
        return
    count = max(map(len, panels.values()))
    figure = blank(max(3.5, 0.3 * count + 1.5), 3.2 * len(panels))
    for axes, (stream, target) in zip(figure.subplots(len(panels), squeeze=False)[:, 0], panels, strict=True):
        weights = np.array([model[stream, target] for model in models])
        layers = np.arange(weights.shape[1])
        axes.bar(layers, weights.mean(axis=0), yerr=weights.std(axis=0), color="tab:blue", alpha=0.6, capsize=2)
        axes.plot(np.tile(layers, len(weights)), weights.ravel(), ".", color="black", markersize=3)
        axes.axhline(1 / len(layers), color="grey", linewidth=0.8, linestyle=":")
        heard = as_label(f"{stream}, for {target}" if target else stream)
        axes.set(xlabel=f"layer of {heard} (0: input of the transformer)", ylabel="softmax weight")
        axes.set_xticks(layers[:: 1 + len(layers) // 26])
    save(figure, folder, "layer_weights")


def plot_numbers(folder: Path, tested: Tested, table: pd.DataFrame) -> None:
    """Write ``scatter``: a panel per target that is a number, predicted against true."""
    goals = [goal for goal in tested.goals.values() if isinstance(goal, RegressionGoal)]
    ranges = {target: scale for goal in goals for target, scale in goal.ranges.items()}
    if not ranges:
        return
    figure = blank(3.2 * len(ranges), 3.2)
    panels = figure.subplots(1, len(ranges), squeeze=False)[0]
    for axes, (target, scale) in zip(panels, ranges.items(), strict=True):
        axes.plot(table[target], table[f"{target}_model"], ".", alpha=0.3, markersize=4, rasterized=True)
        axes.plot(scale, scale, color="grey", linewidth=0.8)
        name = as_label(target)
        axes.set(xlabel=f"true {name}", ylabel=f"predicted {name}", xlim=scale, ylim=scale, aspect="equal")
    save(figure, folder, "scatter")
