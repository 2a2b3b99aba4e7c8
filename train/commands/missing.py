"""How a model of several streams bears that some are missing: of whole utterances, or parts of each."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
import torch
from threadpoolctl import threadpool_limits

from featurestore.shared.errors import SerError
from train.examples.examples import Examples
from train.models.inference import Outputs, device_of, finite
from train.models.model import Model
from train.models.seeds import seed_generators
from train.plots.drawing import as_label, blank, save
from train.running.folder import RunFolder, Variant
from train.running.opened import Run, open_model

RATES = (0.0, 0.25, 0.5, 0.75, 1.0)
Kind = Literal["utterances", "parts"]
KINDS: tuple[Kind, ...] = ("utterances", "parts")


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


def missing_grid(path: Path) -> pd.DataFrame:
    """Return what a run reaches on its test parts when some of a stream is missing.

    Which utterances lack it, and which parts, follows from their names: what is missing at a rate is so at higher ones.

    Args:
        path: of a run with fusion=multiscale and several streams.

    Returns:
        A row for each ``stream``, whether whole ``utterances`` or ``parts`` of each are missing (``missing``), ``rate``
        and ``target``: its ``metric`` and ``value``, over the test parts of all folds together.

    Raises:
        SerError: if the run has another fusion, or one stream.
    """
    run = Run.open(path)
    config, examples = run.folder.config, run.examples
    streams = [name for name in config.streams if name not in config.fusion.raw]
    if not config.fusion.knows_absence or len(streams) < 2:
        raise SerError(
            f"{path}: found fusion={config.fusion.name} of {', '.join(streams)}, expected two streams or more, and a "
            "fusion that knows that some are missing: multiscale"
        )
    cells = [Cell(*cell) for cell in product(streams, KINDS, RATES)]
    outputs: dict[Cell, list[Outputs]] = {cell: [] for cell in cells}
    names: list[str] = []
    device = device_of(config.device)
    kept = [device] if device.type == "cuda" else []
    with threadpool_limits(1), torch.random.fork_rng(devices=kept), torch.inference_mode():
        for fold in dict.fromkeys(variant.fold for variant in run.folder.variants):
            tested = run.folder.protocol.folds[fold].test
            names += tested
            models = [_open(run.folder, examples, one) for one in run.folder.variants if one.fold == fold]
            found = [_predicted(model, examples, tested, cells) for model in models]
            for cell in cells:
                outputs[cell].append(_mean([one[cell] for one in found], examples))
    rows = [row for cell in cells for row in _figures(examples, names, cell, outputs[cell])]
    return pd.DataFrame(rows, columns=["stream", "missing", "rate", "target", "metric", "value"])


def _open(folder: RunFolder, examples: Examples, variant: Variant) -> Model:
    return open_model(folder, folder.config, examples, variant)


def _mean(members: list[Outputs], examples: Examples) -> Outputs:
    """Return what members predict, represented and averaged."""
    return {
        task: goal.represent(torch.stack([member[task] for member in members])).mean(dim=0)
        for task, goal in examples.goals.items()
    }


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


def _figures(examples: Examples, names: list[str], cell: Cell, outputs: list[Outputs]) -> Iterator[tuple[Any, ...]]:
    rows, everyone = torch.from_numpy(examples.rows(names)), np.zeros(len(names), np.int64)
    for task, goal in examples.goals.items():
        predicted = torch.cat([one[task] for one in outputs])
        for target, (sums, metric) in goal.figures(examples.targets[task][rows], predicted, everyone).items():
            yield (*cell, target, goal.metrics[target], float(metric(sums[0])))


def plot_missing(folder: Path, grid: pd.DataFrame) -> None:
    """Write ``missing``: a panel for each target, a line for each stream, whole utterances and parts of each."""
    targets = list(dict.fromkeys(grid["target"]))
    figure = blank(3.2 * len(targets), 3.4)
    panels = figure.subplots(1, len(targets), squeeze=False, sharey=True)[0]
    for axes, target in zip(panels, targets, strict=True):
        mine = grid[grid["target"] == target]
        for (stream, kind), line in mine.groupby(["stream", "missing"], sort=False):
            style = "-" if kind == "utterances" else "--"
            axes.plot(line["rate"], line["value"], f"o{style}", markersize=3, label=f"{as_label(str(stream))}, {kind}")
        axes.set(xlabel="share that is missing", title=as_label(str(target)))
        axes.grid(alpha=0.3)
    panels[0].set_ylabel(str(grid["metric"].iloc[0]))
    lines, names = panels[0].get_legend_handles_labels()
    figure.legend(lines, names, loc="outside lower center", ncols=2, frameon=False)
    save(figure, folder, "missing")
