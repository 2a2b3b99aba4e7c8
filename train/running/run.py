"""One run: a store and a config in, a run folder with models, predictions, figures and plots out."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from featurestore.shared.command import printable
from featurestore.shared.errors import SerError
from train.config import TrainConfig
from train.evaluation.evaluate import evaluate, predictions_table
from train.evaluation.report import write_report
from train.evaluation.tested import System, Tested
from train.examples.checks import check_folds, check_ranks
from train.examples.examples import Examples, load_examples
from train.examples.protocol import PARTS, Protocol, changed_labels, fitting, make_protocol, read_protocol
from train.models.inference import count_parameters, make_model, slow_precision
from train.models.training import check_adaptation
from train.plots.run_plots import plot_run
from train.reading.corpora import AnyStore
from train.reading.labels import grouped
from train.running.attention import check_attention, plot_attention
from train.running.curve_results import check_drawn, write_curves
from train.running.folder import ModelKey, RunFolder, make_run_folder
from train.running.inspection import Inspection
from train.running.live import Live, epoch_line, following
from train.running.memory import enough_memory
from train.running.sinks import check_sinks, write_sinks
from train.running.work import Job, do_pack, jobs_of, load_run, packed
from train.running.workers import count_workers, run_packs
from train.shared.files import append_line, owned, write_whole
from train.shared.tensors import read_tensors
from train.unsafe import stamp

Say = Callable[[str], None]
LEARNED = ("best_epoch", "best_score", "layer_weights")
"""What metrics.json says of each model."""


def run(store: AnyStore, config: TrainConfig, say: Say) -> tuple[Path, dict[str, Any]]:
    """Train and test on every fold, and return the run folder and the content of its metrics.json.

    Selection sees train and dev only; the test parts are predicted once, by the selected models. What would make the
    figures meaningless is an error; what may be meant is a warning in the log and in metrics.json, which is written
    last: a run that has it is whole. One that lacks it can be resumed.

    Raises:
        SerError: if the store lacks what the config asks for, or nothing can be learned from it, or a file of the run
            cannot be written.
    """
    folder, examples = prepare(
        store, config, lambda examples: make_run_folder(config, store.dataset, examples.clock.source.name)
    )
    return folder.path, _finish(folder, examples, _Log(folder, say))


def prepare(
    store: AnyStore, config: TrainConfig, place: Callable[[Examples], Path], inspection: Inspection | None = None
) -> tuple[RunFolder, Examples]:
    """Check all that can be known before anything is trained, and write it into the folder of a run.

    Args:
        store: with the features and labels.
        config: of the run.
        place: makes the folder, once there is nothing more to refuse.
        inspection: remembers what it found for other runs.

    Raises:
        SerError: as `run` does.
    """
    check_sinks(config.log)
    inspection = inspection or Inspection()
    examples = load_examples(store, config)
    protocol = protocol_of(config, examples)
    if config.lmmd:
        for fold in protocol.folds:
            check_adaptation(examples, fold.unlabelled)
    warnings = [*examples.remarks, *inspection.survey(examples), *check_folds(examples, protocol.folds, config.folds)]
    check_attention(config, protocol)
    check_drawn(config, protocol)
    warnings += check_ranks(config, protocol, examples.names, {name: g.task for name, g in examples.goals.items()})
    warnings += changed_labels(protocol, examples.table)
    warnings += slow_precision(config)
    found = inspection.audit(examples, protocol, config)
    found.refuse(config.unsafe)
    with torch.random.fork_rng(devices=[]), enough_memory():
        model = make_model(examples, config, config.seed)  # parts that do not fit are refused before there is a folder
    folder = RunFolder(place(examples))
    folder.write(config, examples, protocol, warnings, found, count_parameters(model))
    return folder, examples


def resume(path: Path, say: Say) -> tuple[Path, dict[str, Any]]:
    """Go on with a run that was interrupted, and return its folder and the content of its metrics.json.

    Raises:
        SerError: if it is no run, or its store has changed.
    """
    folder = RunFolder(path)
    examples = load_examples(folder.open_store(), folder.config, folder.goals, labelled=True)
    return folder.path, _finish(folder, examples, _Log(folder, say))


def write_results(path: str) -> None:
    """Write the results of a run whose jobs are done, and all that was said of it into its log."""
    folder, examples = load_run(path)
    log = _Log(folder, lambda _: None)
    for line in _described(folder, examples):
        log(line)
    _results(folder, examples, log)


def protocol_of(config: TrainConfig, examples: Examples) -> Protocol:
    """Return the folds of a file, or those that the splits make."""
    dataset = examples.store.dataset
    if config.protocol is not None:
        protocol = fitting(read_protocol(config.protocol), examples.names, dataset, config.protocol)
    else:
        protocol = make_protocol(config.splits, examples.table, dataset)
    config.unsafe.refuse(protocol.unsafe, f"splits={protocol.name}")
    if config.folds is not None and (not config.folds or len(set(config.folds)) < len(config.folds)):
        raise SerError(f"folds={list(config.folds)}: expected one or more numbers, each once")
    absent = [number for number in config.folds or () if not 0 <= number < len(protocol.folds)]
    if absent:
        raise SerError(f"folds={absent} are not there: found {len(protocol.folds)} folds, numbered from 0")
    return protocol


def _finish(folder: RunFolder, examples: Examples, log: _Log) -> dict[str, Any]:
    """Do what is still to be done of a run, and write its results."""
    for line in _described(folder, examples):
        log(line)
    jobs = jobs_of(folder)
    left = [job for job in jobs if not job.is_done(folder)]
    if left:
        try:
            with owned(folder.path), following(folder, left, examples, log) as live:
                _train(folder, left, live)
        except KeyboardInterrupt:
            log(f"interrupted: ser-train resume {folder.path} goes on from the last epoch of each model")
            raise
    return _results(folder, examples, log)


def _train(folder: RunFolder, jobs: list[Job], live: Live) -> None:
    config, path = folder.config, os.path.abspath(folder.path)
    workers = count_workers(config.device, config.workers, len(jobs), config.scheduler)
    packs = packed([(path, job) for job in jobs], workers)
    for (_, job), why in run_packs(do_pack, packs, workers, config.scheduler, live.epoch):
        if why:
            raise SerError(why)
        if job:
            live.done(job)


def _results(folder: RunFolder, examples: Examples, log: _Log) -> dict[str, Any]:
    numbers = list(dict.fromkeys(key.fold for key in folder.models))
    folds = [folder.fold(number) for number in numbers]
    systems = {"model": _members(folder, examples, numbers)}
    if folder.config.baseline:
        systems["ridge"] = _ridge(folder, examples, numbers)
    notes = [read_tensors(folder.model(key))[1] for key in folder.models]
    results = {
        "metrics": examples.metrics,
        "folds": numbers,
        **evaluate(examples, folds, systems),
        "models": [
            {"fold": key.fold, "member": key.member, **{name: note[name] for name in LEARNED}}
            for key, note in zip(folder.models, notes, strict=True)
        ],
        "utterances": {part: [len(getattr(fold, part)) for fold in folds] for part in PARTS},
        "protocol_sha256": folder.protocol.sha256,
        "audit": folder.note.get("audit", {}),
        "unsafe": folder.config.unsafe.names,
        "warnings": folder.note["warnings"],
        "skipped": folder.note["skipped"],
    }
    table = predictions_table(examples, dict(zip(numbers, folds, strict=True)), systems)
    if folder.config.unsafe.names:
        table["unsafe"] = " ".join(folder.config.unsafe.names)
    if folder.config.plots:
        plot_run(folder.path / "plots", notes, Tested.of(examples, folds, systems), table)
    plot_attention(folder, examples)
    write_curves(folder, examples, numbers, systems["model"])
    write_report(folder.path / "report.xlsx", results)
    write_whole(folder.path / "predictions.csv", table.to_csv())
    write_whole(folder.path / "metrics.jsonl", "".join(map(epoch_line, _epochs(folder.models, notes))))
    write_sinks(folder.config.log, folder.path, folder.config.to_dict(), results)
    for line in result_lines(results):
        log(line)
    write_whole(folder.path / "metrics.json", json.dumps(results, indent=1, ensure_ascii=False))
    return results


def _epochs(models: list[ModelKey], notes: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield what every model reached in every epoch, in the order of the models."""
    for key, note in zip(models, notes, strict=True):
        for again in (False, True):
            for epoch in note.get("again" if again else "history", []):
                yield {"fold": key.fold, "member": key.member, "again": again, **epoch}


def _members(folder: RunFolder, examples: Examples, numbers: list[int]) -> System:
    """Return what the models predict for the test part of each fold."""
    found = {
        number: [read_tensors(folder.outputs(key))[0] for key in folder.models if key.fold == number]
        for number in numbers
    }
    return System(
        {
            task: [goal.represent(torch.stack([one[task] for one in found[number]])) for number in numbers]
            for task, goal in examples.goals.items()
        }
    )


def _ridge(folder: RunFolder, examples: Examples, numbers: list[int]) -> System:
    found = [read_tensors(folder.ridge(number))[0] for number in numbers]
    return System({task: [one[task][None] for one in found] for task in examples.goals}, probable=False)


def result_lines(results: dict[str, Any]) -> list[str]:
    """Return the table of results: a line per target, each system with its 95 % interval."""
    systems, metrics = results["results"], results["metrics"]
    targets = list(next(iter(systems.values())))
    words = {target: f"{target} {metrics[target]}" if target in metrics else target for target in targets}
    width = max(8, *map(len, words.values()))
    lines = [stamp(results["unsafe"])] if results.get("unsafe") else []
    lines.append(" " * width + "".join(f"{system:>26s}" for system in systems))
    for target in targets:
        cells = (systems[system][target] for system in systems)
        values = "".join(f"{c['value']:+9.3f} [{c['low']:+.3f}, {c['high']:+.3f}]" for c in cells)
        lines.append(f"{words[target]:{width}s}{values}")
        members = systems["model"][target].get("members")
        if members:
            low, high, sd = min(members), max(members), systems["model"][target]["members_sd"]
            lines.append(
                f"{'':{width}s}{f'one member {low:+.3f} to {high:+.3f}, sd {sd:.3f}':>{len(values.split('[')[0])}s}"
            )
    return lines


def _described(folder: RunFolder, examples: Examples) -> list[str]:
    config, heard = folder.config, ", ".join(hearing.source.name for hearing in examples.streams.values())
    folds = len(folder.models) // config.members
    lines = [
        f"{examples.store.path}: {len(examples.names)} utterances, {folds} fold{'s' if folds > 1 else ''}, "
        f"{config.members} member{'s' if config.members > 1 else ''}, {heard}"
    ]
    skipped = grouped(folder.note["skipped"].items())
    lines += [f"skipped: {line}; all of their names are in metrics.json" for line in skipped]
    lines += [f"warning: {line}" for line in folder.note["warnings"]]
    lines += [f"audit: {line}" for line in folder.note.get("audit", {}).get("lines", [])]
    return lines + ([stamp(config.unsafe.names)] if config.unsafe.names else [])


class _Log:
    """Says a line and keeps it in a file."""

    def __init__(self, folder: RunFolder, say: Say) -> None:
        self._file, self._say = folder.path / "train_log.txt", say

    def __call__(self, line: str) -> None:
        self._say(line)
        append_line(self._file, printable(line))
