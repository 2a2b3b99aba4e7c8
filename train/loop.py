"""The training loop: any number of models on one pass over the data per epoch."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from featurestore.errors import SerError
from train.config import OptimConfig
from train.examples import Examples
from train.losses import Loss
from train.model import Batch, Model

Score = Callable[[torch.Tensor, torch.Tensor], float]
"""From the targets of some examples and what was predicted for them, to a number of which more is better."""


@dataclass(eq=False)
class Variant:
    """A model in training: its parts of the data, and its best state by the dev score.

    Attributes:
        model: the model; after `fit` in its best state.
        train: rows that train it.
        dev: rows that select its best epoch; without any, it is the last one.
        epochs: most passes over ``train``.
        history: loss and dev score of each epoch.
    """

    model: Model
    train: torch.Tensor
    dev: torch.Tensor
    epochs: int
    history: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0
    best_score: float = -math.inf
    best_state: dict[str, Any] = field(default_factory=dict)


def fit(
    variants: list[Variant],
    examples: Examples,
    loss: Loss,
    optim: OptimConfig,
    score: Score,
    seed: int,
    report: Callable[[int, list[Variant]], None],
) -> None:
    """Train every variant until its dev score stops rising, and put each into its best state.

    Args:
        variants: to train; all are moved forward by each batch that is read.
        examples: the data.
        loss: to minimise.
        optim: how.
        score: on dev, by which the best epoch is chosen.
        seed: of the order of the batches.
        report: told the epoch (from 1) and the variants that are still in training after it.
    """
    together = torch.unique(torch.cat([variant.train for variant in variants]))
    share = sum(len(variant.train) for variant in variants) / len(variants) / len(together)
    size = round(optim.batch_size / share)
    steps = math.ceil(len(together) / size)
    optimisers = [_optimiser(variant.model, optim) for variant in variants]
    active = list(range(len(variants)))
    for epoch in range(1, optim.epochs + 1):
        losses: list[list[float]] = [[] for _ in variants]
        for step, batch in enumerate(
            examples.batches(together, size, seed=seed * 100_003 + epoch), (epoch - 1) * steps
        ):
            factor = _rate(step, optim.warmup * steps, optim.epochs * steps)
            for i in active:
                part = batch.select(torch.isin(batch.rows, variants[i].train))
                if len(part.rows) > 1:
                    losses[i].append(_step(variants[i].model, optimisers[i], factor, part, loss, optim.clip))
        predicted = predict([variants[i].model for i in active], examples, [variants[i].dev for i in active], size)
        for i, on_dev in zip(active, predicted, strict=True):
            if not losses[i]:
                raise SerError(
                    f"fold {i}: no batch had two utterances of its train part: give a larger optim.batch_size"
                )
            mean_loss = sum(losses[i]) / len(losses[i])
            if not math.isfinite(mean_loss):
                raise SerError(f"fold {i}: the loss is {mean_loss} in epoch {epoch}; try a smaller optim.lr")
            dev_score = score(examples.targets[variants[i].dev], on_dev) if len(on_dev) else math.nan
            _note(variants[i], epoch, mean_loss, dev_score)
        report(epoch, [variants[i] for i in active])
        active = [i for i in active if epoch < min(variants[i].epochs, variants[i].best_epoch + optim.patience)]
        if not active:
            break
    for variant in variants:
        variant.model.load_state_dict(variant.best_state)


def predict(models: list[Model], examples: Examples, rows: list[torch.Tensor], size: int) -> list[torch.Tensor]:
    """Return what each model predicts for its rows, (rows, outputs), on one pass over the data."""
    outputs = [torch.zeros(len(examples.names), examples.outputs) for _ in models]
    with torch.inference_mode():
        for batch in examples.batches(torch.unique(torch.cat(rows)), size):
            for model, wanted, output in zip(models, rows, outputs, strict=True):
                part = batch.select(torch.isin(batch.rows, wanted))
                if len(part.rows):
                    output[part.rows] = model.eval()(part.to(model.device)).float().cpu()
    found = [output[wanted] for output, wanted in zip(outputs, rows, strict=True)]
    if not all(bool(output.isfinite().all()) for output in found):
        raise SerError("a model predicts what is not finite; try a smaller optim.lr")
    return found


def _step(
    model: Model, optimiser: torch.optim.Optimizer, factor: float, batch: Batch, loss: Loss, clip: float
) -> float:
    batch = batch.to(model.device)
    for group in optimiser.param_groups:
        group["lr"] = factor * group["peak"]
    value = loss(model.train()(batch), batch.targets)
    optimiser.zero_grad(set_to_none=True)
    value.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
    optimiser.step()
    return float(value.detach())


def _optimiser(model: Model, optim: OptimConfig) -> torch.optim.Optimizer:
    others = [p for name, p in model.named_parameters() if name != "layers.logits"]
    layers: dict[str, Any] = {"params": [model.layers.logits], "peak": optim.layer_lr, "weight_decay": 0.0}
    return torch.optim.AdamW([layers, {"params": others, "peak": optim.lr}], weight_decay=optim.weight_decay)


def _rate(step: int, rising: float, total: int) -> float:
    """Return the learning rate of a step (from 0), as a share of its peak: a rise over the warm-up, then a cosine."""
    return min(1.0, (step + 1) / max(1.0, rising)) * 0.5 * (1 + math.cos(math.pi * step / total))


def _note(variant: Variant, epoch: int, loss: float, score: float) -> None:
    variant.history.append({"epoch": epoch, "loss": loss, "dev": score})
    if not score < variant.best_score:  # of equal ones the later, which has been trained for longer
        variant.best_score, variant.best_epoch = score, epoch
        variant.best_state = copy.deepcopy(variant.model.state_dict())
