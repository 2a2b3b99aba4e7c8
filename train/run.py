"""One run: a store and a config in, a run folder with models, predictions, figures and plots out."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
import yaml

from featurestore.command import printable
from featurestore.errors import SerError
from featurestore.statistics import corpus_statistics
from featurestore.store import Store
from train.checks import check_folds, shared_speakers
from train.config import TrainConfig
from train.evaluate import compare, predictions_table, selection_score
from train.examples import Examples, load_examples
from train.files import append_line, write_whole
from train.labels import grouped
from train.layers import SMALLEST_SD, LayerSum
from train.loop import Variant, fit, predict
from train.memory import keep_freed_memory
from train.model import Model, PitchNorm
from train.plots import plot_curves, plot_layer_weights, plot_predictions
from train.ridge import ridge_predictions
from train.splits import Fold

Say = Callable[[str], None]


def run(store: Store, config: TrainConfig, say: Say) -> tuple[Path, dict[str, Any]]:
    """Train and test on every fold, and return the run folder and the content of its metrics.json.

    Selection sees train and dev only; the test parts are predicted once, by the selected models. What would make the
    figures meaningless is an error; what may be meant is a warning in the log and in metrics.json, which is written
    last: a run that has it is whole.

    Raises:
        SerError: if the store lacks what the config asks for, or nothing can be learned from it, or a file of the run
            cannot be written.
    """
    torch.set_num_threads(config.threads or torch.get_num_threads())
    keep_freed_memory()
    examples = load_examples(store, config)
    folds = config.splits.folds(examples.table)
    warnings = [*examples.remarks, *check_folds(examples, folds)]
    leaks = shared_speakers(examples, folds)
    variants = [_variant(config, examples, fold.train, fold.dev, config.optim.epochs) for fold in folds]
    folder = make_run_folder(config, store.dataset, examples.states.name)
    log = _Log(folder, say, "UAR" if examples.classes else "CCC")
    resolved = yaml.safe_dump({**config.to_dict(), "encoder": examples.states.name}, sort_keys=False)
    write_whole(folder / "config.yaml", f"# ser-train --store {printable(str(store.path))}\n{resolved}")
    _describe(log, store, examples, folds, [*warnings, *leaks])

    score = selection_score(examples)
    fit(variants, examples, config.loss, config.optim, score, config.seed, partial(log.epoch, variants))
    final = _refit(config, examples, folds, variants, log) if config.optim.refit else variants
    tests = [examples.rows(fold.test) for fold in folds]
    predictions = {"model": predict([v.model for v in final], examples, tests, config.optim.batch_size)}
    if config.baseline:
        predictions["ridge"] = ridge_predictions(examples, folds, score)
    results = {
        "metric": log.metric,
        "results": compare(examples, folds, predictions),
        "best_epochs": [variant.best_epoch for variant in variants],
        "dev": [variant.best_score for variant in variants],
        "layer_weights": [variant.model.layers.weights().tolist() for variant in final],
        "utterances": {part: [len(getattr(fold, part)) for fold in folds] for part in ("train", "dev", "test")},
        "shared_speakers": leaks,
        "warnings": warnings,
        "skipped": examples.skipped,
    }
    table = predictions_table(examples, folds, predictions)
    _write_models(folder / "best_model.pth", config, final)
    plot_curves(folder, variants, log.metric)
    plot_layer_weights(folder, final)
    plot_predictions(folder, examples, table)
    write_whole(folder / "predictions.csv", table.to_csv())
    for line in result_lines(results):
        log(line)
    write_whole(folder / "metrics.json", json.dumps(results, indent=1))
    return folder, results


def make_run_folder(config: TrainConfig, dataset: str, encoder: str) -> Path:
    """Make and return the next free ``runs/DATASET/ENCODER/METHOD/exp_N``.

    Raises:
        SerError: if it cannot be made.
    """
    parent = config.runs / _as_folder(dataset) / _as_folder(encoder) / (config.method or config.fusion.name)
    try:
        parent.mkdir(parents=True, exist_ok=True)
        number = 1 + max((int(p.name[4:]) for p in parent.glob("exp_*") if p.name[4:].isdecimal()), default=0)
        while (parent / f"exp_{number}").exists() or not _made(parent / f"exp_{number}"):
            number += 1
    except (OSError, ValueError) as error:  # the latter of a name with a zero byte
        reason = getattr(error, "strerror", None) or str(error)
        raise SerError(f"no folder for the run can be made in {parent}: {reason}; choose another with runs=") from None
    return parent / f"exp_{number}"


def _as_folder(name: str) -> str:
    """Return a name that a store gives as that of one folder."""
    safe = name.replace("/", "_").replace("\0", "_")
    return "_" if safe in ("", ".", "..") else safe


def _made(folder: Path) -> bool:
    try:
        folder.mkdir()
    except FileExistsError:  # another run was faster
        return False
    return True


def result_lines(results: dict[str, Any]) -> list[str]:
    """Return the table of results: a line per target, each system with its 95 % interval."""
    systems = results["results"]
    targets = list(next(iter(systems.values())))
    lines = [f"{results['metric']:8s}" + "".join(f"{system:>26s}" for system in systems)]
    for target in targets:
        cells = (systems[system][target] for system in systems)
        lines.append(f"{target:8s}" + "".join(f"{c['value']:+9.3f} [{c['low']:+.3f}, {c['high']:+.3f}]" for c in cells))
    return lines


class _Log:
    """Says a line and keeps it in a file; notes every epoch in another."""

    def __init__(self, folder: Path, say: Say, metric: str) -> None:
        self._folder, self._say, self.metric = folder, say, metric

    def __call__(self, line: str) -> None:
        self._say(line)
        append_line(self._folder / "train_log.txt", printable(line))

    def epoch(self, variants: list[Variant], epoch: int, active: list[Variant], again: bool = False) -> None:
        """Note what the ``active`` ones among the variants have reached."""
        for number, variant in enumerate(variants):
            if variant in active:
                reached = {key: value for key, value in variant.history[-1].items() if not math.isnan(value)}
                line = {"fold": number, **({"refit": True} if again else {}), **reached}
                append_line(self._folder / "metrics.jsonl", json.dumps(line))
        loss, dev = (sum(variant.history[-1][key] for variant in active) / len(active) for key in ("loss", "dev"))
        reached_text = f"loss {loss:.4f}" + ("" if again else f", dev {self.metric} {dev:.4f}")
        self(f"{'again, ' if again else ''}epoch {epoch:3d}: {len(active)} in training, {reached_text}")


def _describe(log: _Log, store: Store, examples: Examples, folds: list[Fold], warnings: list[str]) -> None:
    log(f"{store.path}: {len(examples.names)} utterances, {len(folds)} folds, {examples.states.name}")
    for line in grouped(examples.skipped.items()):
        log(f"skipped: {line}; all of their names are in metrics.json")
    for line in warnings:
        log(f"warning: {line}")


def _write_models(file: Path, config: TrainConfig, final: list[Variant]) -> None:
    content = BytesIO()  # torch has errors of its own for a full disk
    torch.save({"config": config.to_dict(), "folds": [variant.best_state for variant in final]}, content)
    write_whole(file, content.getvalue())


def _variant(config: TrainConfig, examples: Examples, train: list[str], dev: list[str], epochs: int) -> Variant:
    torch.manual_seed(config.seed)
    rows = examples.rows(train)
    layers = LayerSum(*map(torch.from_numpy, corpus_statistics(examples.states, train)))
    model = Model(config, layers, _pitch_norm(config, examples, rows), examples.outputs)
    return Variant(model.to(_device(config.device)), rows, examples.rows(dev), epochs)


def _refit(
    config: TrainConfig, examples: Examples, folds: list[Fold], selected: list[Variant], log: _Log
) -> list[Variant]:
    """Return new models of train and dev together, each trained for the epochs that dev chose."""
    log("training again on train and dev together")
    final = [
        _variant(config, examples, fold.train + fold.dev, [], variant.best_epoch)
        for fold, variant in zip(folds, selected, strict=True)
    ]
    report = partial(log.epoch, final, again=True)
    fit(final, examples, config.loss, config.optim, selection_score(examples), config.seed, report)
    return final


def _device(name: str | None) -> torch.device:
    try:
        probe = torch.zeros(1, device=name or ("cuda" if torch.cuda.is_available() else "cpu"))
        probe.tolist()  # some devices hold no values
    except (RuntimeError, AssertionError, ImportError) as error:
        raise SerError(f"device={name} cannot be used: {str(error).splitlines()[0]}") from None
    return probe.device


def _pitch_norm(config: TrainConfig, examples: Examples, train: torch.Tensor) -> PitchNorm:
    if not examples.pitch or config.pitch.normalize != "train":
        return PitchNorm(0.0, 1.0)
    heights = torch.cat([torch.from_numpy(examples.pitch[row]) for row in train.tolist()])
    heard = heights[heights[:, 1] > 0, 0]
    return (
        PitchNorm(float(heard.mean()), max(float(heard.std()), SMALLEST_SD)) if len(heard) > 1 else PitchNorm(0.0, 1.0)
    )
