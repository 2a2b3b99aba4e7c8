"""One run: a store and a config in, a run folder with models, predictions, figures and plots out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml

from featurestore.errors import SerError
from featurestore.statistics import corpus_statistics
from featurestore.store import Store
from train.config import TrainConfig
from train.evaluate import compare, predictions_table, selection_score
from train.examples import Examples, load_examples
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

    Selection sees train and dev only; the test parts are predicted once, by the selected models.

    Raises:
        SerError: if the store lacks what the config asks for.
    """
    torch.set_num_threads(config.threads or torch.get_num_threads())
    keep_freed_memory()
    examples = load_examples(store, config)
    folds = config.splits.folds(examples.table)
    variants = [_variant(config, examples, fold.train, fold.dev, config.optim.epochs) for fold in folds]
    encoder = examples.states.name
    folder = make_run_folder(config, store.dataset, encoder)
    log = _Log(folder / "train_log.txt", say)
    resolved = yaml.safe_dump({**config.to_dict(), "encoder": encoder}, sort_keys=False)
    (folder / "config.yaml").write_text(f"# ser-train --store {store.path}\n{resolved}")
    leaks = shared_speakers(examples, folds)
    _describe(log, store, examples, folds, leaks)

    score = selection_score(examples)
    metric = "UAR" if examples.classes else "CCC"
    with (folder / "metrics.jsonl").open("w") as epochs:

        def report(epoch: int, active: list[Variant]) -> None:
            for number, variant in enumerate(variants):
                if variant in active:
                    epochs.write(json.dumps({"fold": number, **variant.history[-1]}) + "\n")
            epochs.flush()
            means = [sum(v.history[-1][key] for v in active) / len(active) for key in ("loss", "dev")]
            log(f"epoch {epoch:3d}: {len(active)} in training, loss {means[0]:.4f}, dev {metric} {means[1]:.4f}")

        fit(variants, examples, config.loss, config.optim, score, config.seed, report)
    final = _refit(config, examples, folds, variants, log) if config.optim.refit else variants

    tests = [examples.rows(fold.test) for fold in folds]
    predictions = {"model": predict([v.model for v in final], examples, tests, config.optim.batch_size)}
    if config.baseline:
        predictions["ridge"] = ridge_predictions(examples, folds, score)
    results = {
        "metric": metric,
        "results": compare(examples, folds, predictions),
        "best_epochs": [variant.best_epoch for variant in variants],
        "dev": [variant.best_score for variant in variants],
        "layer_weights": [variant.model.layers.weights().tolist() for variant in final],
        "utterances": {part: [len(getattr(fold, part)) for fold in folds] for part in ("train", "dev", "test")},
        "shared_speakers": leaks,
        "skipped": examples.skipped,
    }
    table = predictions_table(examples, folds, predictions)
    table.to_csv(folder / "predictions.csv")
    (folder / "metrics.json").write_text(json.dumps(results, indent=1))
    torch.save({"config": config.to_dict(), "folds": [v.best_state for v in final]}, folder / "best_model.pth")
    plot_curves(folder, variants, metric)
    plot_layer_weights(folder, final)
    plot_predictions(folder, examples, table)
    for line in result_lines(results):
        log(line)
    return folder, results


def make_run_folder(config: TrainConfig, dataset: str, encoder: str) -> Path:
    """Make and return the next free ``runs/DATASET/ENCODER/METHOD/exp_N``."""
    parent = config.runs / dataset / encoder / (config.method or config.fusion.name)
    parent.mkdir(parents=True, exist_ok=True)
    number = 1 + max((int(p.name[4:]) for p in parent.glob("exp_*") if p.name[4:].isdigit()), default=0)
    while True:
        try:
            (parent / f"exp_{number}").mkdir()
        except FileExistsError:  # another run was faster
            number += 1
        else:
            return parent / f"exp_{number}"


def shared_speakers(examples: Examples, folds: list[Fold]) -> list[str]:
    """Return a line for each fold and pair of parts that have speakers in common."""
    if "speaker" not in examples.table:
        return ["the store has no speakers: whether parts share them cannot be known"]
    speakers = examples.table["speaker"]
    lines = []
    for number, fold in enumerate(folds):
        parts = {part: set(speakers.loc[getattr(fold, part)]) - {""} for part in ("train", "dev", "test")}
        for a, b in (("train", "test"), ("dev", "test"), ("train", "dev")):
            shared = parts[a] & parts[b]
            if shared:
                lines.append(f"fold {number}: {len(shared)} speakers are in {a} and in {b}, e.g. {sorted(shared)[0]}")
    return lines


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
    """Says a line and keeps it in a file."""

    def __init__(self, file: Path, say: Say) -> None:
        self._file, self._say = file, say

    def __call__(self, line: str) -> None:
        self._say(line)
        with self._file.open("a") as file:
            file.write(line + "\n")


def _describe(log: _Log, store: Store, examples: Examples, folds: list[Fold], leaks: list[str]) -> None:
    log(f"{store.path}: {len(examples.names)} utterances, {len(folds)} folds, {examples.states.name}")
    for name, reason in examples.skipped.items():
        log(f"skipped: {name}: {reason}")
    for line in leaks:
        log(f"warning: {line}")


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
    fit(final, examples, config.loss, config.optim, selection_score(examples), config.seed, lambda *_: None)
    return final


def _device(name: str | None) -> torch.device:
    try:
        return torch.zeros(0, device=name or ("cuda" if torch.cuda.is_available() else "cpu")).device
    except (RuntimeError, AssertionError) as error:
        raise SerError(f"device={name} cannot be used: {str(error).splitlines()[0]}") from None


def _pitch_norm(config: TrainConfig, examples: Examples, train: torch.Tensor) -> PitchNorm:
    if not examples.pitch or config.pitch.normalize != "train":
        return PitchNorm(0.0, 1.0)
    heights = torch.cat([torch.from_numpy(examples.pitch[row]) for row in train.tolist()])
    heard = heights[heights[:, 1] > 0, 0]
    return (
        PitchNorm(float(heard.mean()), max(float(heard.std()), SMALLEST_SD)) if len(heard) > 1 else PitchNorm(0.0, 1.0)
    )
