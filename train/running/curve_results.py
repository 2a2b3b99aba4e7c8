"""What a run writes of its curves and ranks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import torch
from threadpoolctl import threadpool_limits

from featurestore.shared.errors import SerError
from train.config import TrainConfig
from train.curves.rank_files import PROTOCOL, ranks_file
from train.curves.ranks import RANK, as_json
from train.evaluation.curve_tables import FILE, curves_table
from train.evaluation.tested import System
from train.examples.examples import Examples
from train.examples.protocol import Protocol
from train.plots.curve_plots import draw_curves
from train.reading.labels import first_of
from train.running.folder import RunFolder
from train.running.opened import Run
from train.shared.files import write_whole

Say = Callable[[str], None]


def check_drawn(config: TrainConfig, protocol: Protocol) -> None:
    """Check before anything is trained that the utterances of ``curves_of`` can be drawn.

    Raises:
        SerError: if no task hears chunks, or an utterance is in no test part.
    """
    if not config.curves_of:
        return
    if not (config.pooling.name == "chunks" and any(task.by_chunk for task in config.tasks.values())):
        raise SerError("curves_of needs pooling=chunks, and a task that hears chunks: ranking or sequence")
    numbers = range(len(protocol.folds)) if config.folds is None else config.folds
    tested = {name for number in numbers for name in protocol.folds[number].test}
    absent = [name for name in config.curves_of if name not in tested]
    if absent:
        raise SerError(f"curves_of: {first_of(absent)} in no test part of the run; expected utterances that it tests")


def write_curves(folder: RunFolder, examples: Examples, numbers: Sequence[int], system: System) -> None:
    """Write the curves of the test parts, if there are any: ``curves.csv``, and pictures and a page of ``curves_of``.

    Args:
        folder: of the run.
        examples: its data.
        numbers: of the folds.
        system: what the models predict for the test part of each.
    """
    tables = {}
    for place, number in enumerate(numbers):
        outputs = {task: parts[place].mean(dim=0) for task, parts in system.outputs.items()}
        table = curves_table(examples, folder.config, folder.protocol.folds[number].test, outputs)
        if table is None:
            return
        tables[number] = table
    write_whole(folder.path / FILE, pd.concat(tables, names=["fold"]).to_csv())
    drawn = {}
    for name in folder.config.curves_of:
        (fold, *_) = (number for number in numbers if name in folder.protocol.folds[number].test)
        drawn[name] = tables[fold].loc[[name]]
    draw_curves(folder.path / "plots", examples.store, drawn)


def write_ranks(path: Path, out: Path, say: Say) -> None:
    """Write the order of the chunks of every utterance of a run, by the rankers of each fold, in the published form.

    Args:
        path: of a run with the task ranking and pooling=chunks.
        out: a folder for ``fold_K/TARGET.json``, and the protocol of the run.
        say: says a line.

    Raises:
        SerError: if the run has ranked no chunks.
    """
    run = Run.open(path)
    examples = run.examples
    tasks = [name for name, goal in examples.goals.items() if goal.task.name == "ranking"]
    if not tasks or run.folder.config.pooling.name != "chunks":
        raise SerError(f"{path} has ranked no chunks: expected a run with the task ranking and pooling=chunks")
    out.mkdir(parents=True, exist_ok=True)
    write_whole(out / PROTOCOL, run.folder.protocol.to_json())
    for fold in dict.fromkeys(key.fold for key in run.folder.models):
        with threadpool_limits(1), torch.random.fork_rng(devices=[]):
            outputs = run.outputs(examples, examples.names, fold)
        for task in tasks:
            goal = examples.goals[task]
            for column, ranks in goal.curves(outputs[task].mean(dim=0)).items():
                file = ranks_file(out, fold, column.removesuffix(RANK))
                write_whole(file, as_json(dict(zip(examples.names, ranks, strict=True))))
                say(f"{file}: {len(examples.names)} utterances, {ranks.shape[1]} chunks each")
