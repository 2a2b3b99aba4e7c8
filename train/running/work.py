"""The work on one model or one ridge of a run: a pure function of the run's folder, for any process."""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from featurestore.shared.errors import SerError
from train.config import TrainConfig
from train.examples.examples import Examples, load_examples
from train.models.inference import Outputs, predict_alone
from train.models.model import Model
from train.models.ridge import ridge_predictions
from train.models.training import Training
from train.running.folder import ModelKey, RunFolder
from train.running.memory import enough_memory, keep_freed_memory
from train.shared.tensors import read_tensors, write_tensors
from train.splits import Fold

Report = Callable[[dict[str, Any]], None]
MOST_IN_PACK, MOST_BYTES = 16, 1e9
"""Models that are trained side by side in one process, and what they may hold together."""
BYTES_A_PARAMETER = 20
"""Of a model in training: the parameter, its gradient, the two means of Adam, and the best one so far."""


@dataclass(frozen=True)
class Job:
    """A model to be trained and tested, or the ridge of a fold."""

    fold: int
    member: int | None

    @property
    def key(self) -> ModelKey:
        """The model, if it is one."""
        return ModelKey(self.fold, self.member or 0)

    def results(self, folder: RunFolder) -> list[Path]:
        """Return the files by which it is done."""
        if self.member is None:
            return [folder.ridge(self.fold)]
        return [folder.model(self.key), folder.outputs(self.key)]

    def is_done(self, folder: RunFolder) -> bool:
        """Return whether all of them are there."""
        return all(file.exists() for file in self.results(folder))


Task = tuple[str, Job | None]
"""The folder of a run, and a job of it; None stands for its results, where all jobs are done."""
Pack = list[Task]
"""What one process does side by side."""


def jobs_of(folder: RunFolder) -> list[Job]:
    """Return what a run consists of."""
    models = folder.models
    folds = dict.fromkeys(key.fold for key in models)
    jobs = [Job(key.fold, key.member) for key in models]
    return jobs + [Job(fold, None) for fold in folds if folder.config.baseline]


def do_pack(pack: Pack, report: Report) -> list[str | None]:
    """Do jobs side by side, from where they were left, in one thread, and return why each failed, if it did.

    Each passes a window of the store when the one before has, so that all of them read it once. None has another bit
    than alone.

    Args:
        pack: the jobs, each with the folder of its run.
        report: told of each epoch, with the folder as ``run``.
    """
    torch.set_num_threads(1)
    keep_freed_memory()
    failed: list[str | None] = [None] * len(pack)
    with threadpool_limits(1), torch.random.fork_rng(devices=[]):
        going = {number: _steps(path, job, report) for number, (path, job) in enumerate(pack) if job}
        while going:
            for number in list(going):
                try:
                    next(going[number])
                except StopIteration:
                    del going[number]
                except Exception as error:
                    failed[number] = reason_of(error)
                    del going[number]
    return failed


def reason_of(error: Exception) -> str:
    """Return why a task failed; the traceback of what no user can mend, a defect, goes to the standard error."""
    if isinstance(error, SerError | OSError):
        return str(error)
    traceback.print_exception(error)
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({place.filename}, line {place.lineno}): please report it"


def packed(tasks: Sequence[tuple[str, Job]], workers: int) -> list[Pack]:
    """Return jobs in packs: those that pass the same windows of a store together, all others alone.

    Args:
        tasks: the jobs, each with the folder of its run.
        workers: that will have the packs; there are as many, or more.
    """
    packs: list[Pack] = []
    together: dict[object, list[tuple[tuple[str, Job], float]]] = {}
    for path, job in tasks:
        try:
            folder, examples = load_run(path)
            windows = examples.count_windows(folder.config.optim.window)
        except SerError:  # which doing the job says
            packs.append([(path, job)])
            continue
        if job.member is None or windows == 1:
            packs.append([(path, job)])
        else:
            held = BYTES_A_PARAMETER * folder.note.get("parameters", 0)
            together.setdefault((str(examples.store.path), windows), []).append(((path, job), held))
    for group in together.values():
        packs += _side_by_side(group, min(MOST_IN_PACK, math.ceil(len(group) / workers)))
    return packs


def _side_by_side(group: Sequence[tuple[tuple[str, Job], float]], most: int) -> Iterator[Pack]:
    """Yield jobs, each with the bytes that it holds, in packs of so many at most, which hold no more than they may."""
    pack: Pack = []
    room = MOST_BYTES
    for task, held in group:
        if pack and (len(pack) == most or held > room):
            yield pack
            pack, room = [], MOST_BYTES
        pack.append(task)
        room -= held
    yield pack


def _steps(path: str, job: Job, report: Report) -> Iterator[None]:
    """Do a job, and stop after each window of the store."""
    folder, examples = load_run(path)
    try:
        with enough_memory():
            if job.member is None:
                write_tensors(folder.ridge(job.fold), ridge_predictions(examples, folder.fold(job.fold)), {})
            else:
                yield from _train(folder, examples, job.key, lambda reached: report({"run": path, **reached}))
    except SerError as error:
        raise SerError(f"fold {job.fold}: {error}") from None


def _train(folder: RunFolder, examples: Examples, key: ModelKey, report: Report) -> Iterator[None]:
    """Train a model on the training part, select its best epoch on dev, and predict its test part.

    With ``optim.refit`` another one is trained on train and dev together, for as many epochs, and predicts it.
    """
    config, fold, examples = folder.config, folder.fold(key.fold), examples.of_fold(key.fold)
    train, dev = config.unsafe.trained_on(fold)
    seed, checkpoint = config.seed + key.member, folder.checkpoint(key)
    note = {"fold": key.fold, "member": key.member, "again": False}
    selected = read_tensors(checkpoint)[1]["selected"] if checkpoint.exists() else None
    if selected is None:
        training = Training(examples, config, train, dev, config.optim.epochs, seed, fold.unlabelled)
        _fit_to_all(training, examples, config, fold)
        yield from _advance(training, checkpoint, None, lambda epoch: report({**note, **epoch}))
        selected = training.outcome()
    learned = selected
    if config.optim.refit:
        note["again"] = True
        passed = len(selected["history"])
        epochs = selected["best_epoch"]
        training = Training(examples, config, train + dev, [], epochs, seed, fold.unlabelled, passed)
        _fit_to_all(training, examples, config, fold)
        yield from _advance(training, checkpoint, selected, lambda epoch: report({**note, **epoch}))
        learned = {**selected, "again": training.progress.history}
    model = training.best()
    outputs = yield from _predict(model, examples, fold.test, config.optim.window)
    learned = {**learned, "layer_weights": model.layer_weights()}
    write_tensors(folder.model(key), model.state_dict(), learned)
    write_tensors(folder.outputs(key), outputs, learned)
    checkpoint.unlink(missing_ok=True)


def _predict(model: Model, examples: Examples, names: list[str], megabytes: float) -> Generator[None, None, Outputs]:
    """Predict some utterances, each alone, and stop after each window of the store."""
    rows = examples.rows(names)
    windows = examples.windows(rows, 0, megabytes)
    found = []
    for window in windows:
        found.append(predict_alone(model, examples, [examples.names[row] for row in window]))
        yield
    places = {row: place for place, row in enumerate(np.concatenate(windows).tolist())}
    chosen = [places[row] for row in rows.tolist()]
    return {task: torch.cat([outputs[task] for outputs in found])[chosen] for task in found[0]}


def _fit_to_all(training: Training, examples: Examples, config: TrainConfig, fold: Fold) -> None:
    """Take the statistics of all parts, where ``unsafe.statistics_of_all`` asks for it."""
    if config.unsafe.statistics_of_all:
        training.model.fit(examples, [*fold.train, *fold.dev, *fold.test])


def _advance(training: Training, checkpoint: Path, selected: dict[str, Any] | None, report: Report) -> Iterator[None]:
    """Train to the end, from the checkpoint if it is of the same stage; ``selected`` is what the one before gave."""
    if checkpoint.exists():
        tensors, note = read_tensors(checkpoint)
        if note["selected"] == selected:
            training.resume(tensors, note["training"])
    while not training.finished:
        reached = yield from training.by_window()
        tensors, state = training.state()
        write_tensors(checkpoint, tensors, {"selected": selected, "training": state})
        report(reached)


def load_run(path: str) -> tuple[RunFolder, Examples]:
    """Return a run and its examples, which stay loaded from job to job.

    Raises:
        SerError: if it is no run, or its store has changed.
    """
    return _loaded(path, RunFolder(Path(path)).written)


@lru_cache(maxsize=MOST_IN_PACK)
def _loaded(path: str, written: object) -> tuple[RunFolder, Examples]:  # noqa: ARG001, a run made anew is loaded anew
    folder = RunFolder(Path(path))
    return folder, load_examples(folder.open_store(), folder.config, folder.goals, labelled=True)
