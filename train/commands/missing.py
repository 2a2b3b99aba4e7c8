"""How models of several streams bear that some are missing: of whole utterances, or parts of each."""

from __future__ import annotations

import zlib
from itertools import product
from pathlib import Path
from typing import Literal, NamedTuple

import pandas as pd
import torch
from threadpoolctl import threadpool_limits

from featurestore.shared.errors import SerError
from train.comparison.compare import short_names
from train.comparison.outcomes import Outcome, check_same_labels
from train.evaluation.evaluate import selecting_figures
from train.evaluation.tested import System
from train.examples.examples import Examples
from train.models.inference import Outputs, device_of, finite
from train.models.model import Model
from train.models.seeds import seed_generators
from train.plots.drawing import as_label, blank, save
from train.running.opened import Run, open_model

RATES = (0.0, 0.25, 0.5, 0.75, 1.0)
Kind = Literal["utterances", "parts"]
KINDS: tuple[Kind, ...] = ("utterances", "parts")
FIGURE = ("value", "low", "high")


class Cell(NamedTuple):
    """What is missing: whole utterances of a stream, or parts of each, at a rate."""

    stream: str
    missing: Kind
    rate: float

    def without(self, number: int) -> Cell | None:
        """Return what an utterance of this number, below 2**32, is predicted without; None if it is whole."""
        if self.missing == "parts":
            return self if self.rate else None
        return self._replace(rate=1.0) if number < self.rate * 2**32 else None


def missing_grid(*paths: Path) -> pd.DataFrame:
    """Return what runs reach on their test parts when some of a stream is missing.

    Which utterances lack it, and which parts, follows from their names: what is missing at a rate is so at higher ones.
    Where each target has weights of the layers of its own, other parts are missing for each.

    Args:
        paths: of runs with fusion=multiscale and several streams, on the same test parts.

    Returns:
        A row for each ``run``, ``stream``, whether whole ``utterances`` or ``parts`` of each are missing (``missing``),
        ``rate`` and ``target``: its ``metric`` and ``value``, over the test parts of all folds together, with its 95 %
        interval over speakers and members, ``low`` and ``high``.

    Raises:
        SerError: if a run has another fusion, or one stream, or other test parts than the first.
    """
    first, *others = outcomes = [Outcome(path) for path in paths]
    for other in others:
        check_same_labels(first, other, [target for target in first.metrics if target in other.metrics])
    return pd.concat([_of_run(one.path) for one in outcomes], ignore_index=True)


def _of_run(path: Path) -> pd.DataFrame:
    run = Run.open(path)
    config, examples = run.folder.config, run.examples
    streams = [name for name in config.streams if name not in config.fusion.raw]
    if not config.fusion.knows_absence or len(streams) < 2:
        raise SerError(
            f"{path}: found fusion={config.fusion.name} of {', '.join(streams)}, expected two streams or more, and a "
            "fusion that knows that some are missing: multiscale"
        )
    cells = [Cell(*cell) for cell in product(streams, KINDS, RATES)]
    systems = {cell: System({task: [] for task in examples.goals}) for cell in cells}
    folds = {number: run.folder.fold(number) for number in dict.fromkeys(one.fold for one in run.folder.models)}
    device = device_of(config.device)
    kept = [device] if device.type == "cuda" else []
    with threadpool_limits(1), torch.random.fork_rng(devices=kept), torch.inference_mode():
        for number, fold in folds.items():
            members = [key for key in run.folder.models if key.fold == number]
            models = [open_model(run.folder, config, examples, key) for key in members]
            found = [_predicted(model, examples, fold.test, cells) for model in models]
            for cell, (task, goal) in product(cells, examples.goals.items()):
                outputs = torch.stack([one[cell][task] for one in found])
                systems[cell].outputs[task].append(goal.represent(outputs))
    rows = [
        (str(path), *cell, target, examples.metrics[target], *(figure[end] for end in FIGURE))
        for cell in cells
        for target, figure in selecting_figures(examples, list(folds.values()), systems[cell]).items()
    ]
    columns = ["run", *Cell._fields, "target", "metric", *FIGURE]
    return pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(FIGURE, float))


def _predicted(model: Model, examples: Examples, names: list[str], cells: list[Cell]) -> dict[Cell, Outputs]:
    """Return what a model predicts for utterances, each alone, when some of a stream is missing."""
    fusion, device = model.eval().fusion, next(model.parameters()).device
    found: dict[Cell, list[Outputs]] = {cell: [] for cell in cells}
    for name, row in zip(names, examples.rows(names), strict=True):
        heard, known = model.hear(examples.batch(row[None])), dict[Cell | None, Outputs]()
        for cell in cells:
            number = zlib.crc32(f"{cell.stream} {name}".encode())
            without = cell.without(number)
            if without not in known:
                fusion.absent = frozenset([cell.stream] if without and cell.missing == "utterances" else [])
                fusion.gone = {cell.stream: cell.rate} if without and cell.missing == "parts" else {}
                seed_generators(number, device)
                known[without] = finite(model.decide(model.encode(heard)))
            found[cell].append(known[without])
    return {cell: {task: torch.cat([one[task] for one in of]) for task in examples.goals} for cell, of in found.items()}


def plot_missing(folder: Path, grid: pd.DataFrame) -> None:
    """Write ``missing``: a panel for each stream and target, lines for each run: whole utterances, and parts."""
    streams, targets, runs = (list(dict.fromkeys(grid[key])) for key in ("stream", "target", "run"))
    names = dict(zip(runs, short_names([Path(run) for run in runs]), strict=True))
    figure = blank(1 + 2.6 * len(targets), 1.2 + 2.2 * len(streams))
    panels = figure.subplots(len(streams), len(targets), squeeze=False, sharex=True, sharey="col")
    metrics = dict(zip(grid["target"], grid["metric"], strict=True))
    for axes, (stream, target) in zip(panels.flat, product(streams, targets), strict=True):
        for number, (run, kind) in enumerate(product(runs, KINDS)):
            found = grid[["run", "stream", "missing", "target"]] == [run, stream, kind, target]
            line, colour = grid[found.all(axis=1)], f"C{number}"
            label = f"{as_label(names[run])}: {kind}" if len(runs) > 1 else f"{kind} missing"
            style = "o-" if kind == "utterances" else "o--"
            axes.plot(line["rate"], line["value"], style, color=colour, markersize=3, label=label)
            axes.fill_between(line["rate"], line["low"], line["high"], color=colour, alpha=0.15, linewidth=0)
        axes.set_title(f"{as_label(target)} without {as_label(stream)}", fontsize=9)
        axes.set_ylabel(metrics[target])
        axes.grid(alpha=0.3)
    for axes in panels[-1]:
        axes.set_xlabel("share that is missing")
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    save(figure, folder, "missing")
