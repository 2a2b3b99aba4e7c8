"""The training of one model: a pure function of the examples, the config, the parts and the seed.

Nothing of it depends on what else is trained, where or in which order: every draw is seeded by the model's own seed,
the epoch and the step. After each epoch it can be put down and taken up again.
"""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any

import numpy as np
import torch

from featurestore.format.plan import Ints
from featurestore.shared.errors import SerError
from train.augmentations import Mix
from train.config import TrainConfig
from train.examples.examples import Examples
from train.models.inference import Outputs, device_of, make_model, predict
from train.models.model import Model
from train.models.schedule import count_batches, epoch_order, learning_rate, make_optimiser
from train.models.scores import selection_score
from train.models.seeds import DROPOUT, ORDER, UNLABELLED, seed_generators, seed_of
from train.reading.batch import Batch
from train.shared.tensors import Tensors
from train.tasks import Goal

Targets = dict[str, torch.Tensor]
"""Of each task, as `Goal.targets` has them."""


@dataclass
class Progress:
    """How far a model has come.

    Attributes:
        history: loss and dev score of each epoch.
        best_epoch: from 1; 0 before the first.
        best_score: on dev.
        best_state: the weights that had it.
    """

    history: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0
    best_score: float = -math.inf
    best_state: Tensors = field(default_factory=dict)


class _Clock:
    """What the time goes into."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = {}
        self._last = time.monotonic()

    def __call__(self, what: str) -> None:
        """Count the time since the last call for something."""
        now = time.monotonic()
        self.spent[what] = self.spent.get(what, 0.0) + now - self._last
        self._last = now


class Training:
    """A model in training.

    Args:
        examples: the data.
        config: the settings.
        train: names of the utterances that train it.
        dev: names of those that select its best epoch; without any, that is the last one.
        epochs: most passes over ``train``.
        seed: of all that is drawn.
        unlabelled: names of those to which it is adapted, whose labels are not used.
        passed: epochs of the same variant that came before.

    Raises:
        SerError: if there is too little to learn from, or nothing to adapt to.
    """

    def __init__(
        self,
        examples: Examples,
        config: TrainConfig,
        train: list[str],
        dev: list[str],
        epochs: int,
        seed: int,
        unlabelled: Sequence[str] = (),
        passed: int = 0,
    ) -> None:
        if len(train) < 2:
            raise SerError(f"found {len(train)} utterance to train on, expected two or more")
        self._examples, self._config, self._seed, self._epochs = examples, config, seed, epochs
        self._passed = passed
        self._train, self._dev, self._unlabelled = (examples.rows(names) for names in (train, dev, unlabelled))
        if config.lmmd:
            check_adaptation(examples, unlabelled)
        self._losses = {
            task: goal.fitted(examples.targets[task][torch.from_numpy(self._train)])
            for task, goal in examples.goals.items()
        }
        self._steps = count_batches(len(train), config.optim.batch_size)
        self.model = make_model(examples, config, seed)
        self._device = device_of(config.device)
        if self._device.type != "cpu":
            examples.keep_on(self._device)
        self.model.fit(examples, train)
        self._optimiser = make_optimiser(self.model, config.optim)
        self.progress = Progress()

    @property
    def finished(self) -> bool:
        """Whether there is nothing more to be gained."""
        done = len(self.progress.history)
        return done >= min(self._epochs, self.progress.best_epoch + self._config.optim.patience) and done > 0

    def epoch(self) -> dict[str, float]:
        """Go over the training part once, and return the loss, the dev score, and what the time went into.

        Raises:
            SerError: if the loss, or what is predicted, is not finite.
        """
        passing = self.by_window()
        while True:
            try:
                next(passing)
            except StopIteration as end:
                return dict(end.value)

    def by_window(self) -> Generator[None, None, dict[str, float]]:
        """Do an epoch, and stop after each window of the store, so that other models can pass it, too."""
        number, lengths, clock = len(self.progress.history) + 1, self._examples.lengths, _Clock()
        generator = np.random.default_rng(seed_of(self._seed, ORDER, number))
        size = self._config.optim.batch_size
        windows = self._examples.windows(self._train, self._pass_of(number), self._config.optim.window)
        compared = any(goal.task.compares for goal in self._examples.goals.values())
        alike = np.zeros_like(lengths) if compared else lengths
        orders = [epoch_order(rows, alike, size, generator) for rows in windows]
        self._steps = sum(map(len, orders))
        others = self._examples.batches(self._others(number)) if self._config.lmmd else repeat(None)
        losses: list[float] = []
        for order in orders:
            clock("train")
            for batch, other in zip(self._examples.batches(order), others, strict=False):
                clock("read")
                losses.append(self._step(number, len(losses), batch, other))
                clock("train")
            yield
            clock("")
        loss = sum(losses) / len(losses)
        if not math.isfinite(loss):
            raise SerError(f"the loss is {loss} in epoch {number}; try a smaller optim.lr")
        score = (yield from self._score_on_dev(number, clock)) if len(self._dev) else math.nan
        note = {"epoch": number, "loss": loss, "dev": score}
        self._note(number, score, note)
        spent = {what: clock.spent.get(what, 0.0) for what in ("read", "train", "select")}
        return {**note, **spent, "utterances": len(self._train), "frames": int(lengths[self._train].sum())}

    def seconds_a_step(self, count: int) -> float:
        """Return what a step takes, the middle one of some, and train with them.

        Before them comes the batch with the most frames: it compiles, and takes all the memory that training does.
        """
        lengths, size = self._examples.lengths, self._config.optim.batch_size
        order = epoch_order(self._train, lengths, size, np.random.default_rng(0))
        largest = max(order, key=lambda rows: len(rows) * lengths[rows].max())
        others = self._examples.batches(self._others(1)) if self._config.lmmd else repeat(None)
        batches = self._examples.batches([largest, *(order[number % len(order)] for number in range(count))])
        marks = [time.monotonic()]
        for step, (batch, other) in enumerate(zip(batches, others, strict=False)):
            self._step(1, step, batch, other)
            marks.append(time.monotonic())
        return float(np.median(np.diff(marks)[1:]))

    def state(self) -> tuple[Tensors, dict[str, Any]]:
        """Return all that it takes to go on, as tensors and a note."""
        tensors = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        tensors |= {f"best.{name}": tensor for name, tensor in self.progress.best_state.items()}
        for number, values in self._optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{number}.{name}": tensor for name, tensor in values.items()}
        return tensors, self.outcome()

    def resume(self, tensors: Tensors, note: dict[str, Any]) -> None:
        """Go on from a `state`."""
        self.model.load_state_dict(_below(tensors, "model."))
        optimiser = self._optimiser.state_dict()
        for name, tensor in _below(tensors, "optimiser.").items():
            number, _, key = name.partition(".")
            optimiser["state"].setdefault(int(number), {})[key] = tensor
        self._optimiser.load_state_dict(optimiser)
        self.progress = Progress(note["history"], note["best_epoch"], note["best_score"], _below(tensors, "best."))

    def outcome(self) -> dict[str, Any]:
        """Return which epoch was the best, its score, and the history."""
        progress = self.progress
        return {"best_epoch": progress.best_epoch, "best_score": progress.best_score, "history": progress.history}

    def best(self) -> Model:
        """Return the model in its best state."""
        self.model.load_state_dict(self.progress.best_state)
        return self.model

    def _others(self, epoch: int) -> list[Ints]:
        """Return the batches of unlabelled utterances of an epoch, as many as there are steps."""
        generator = np.random.default_rng(seed_of(self._seed, UNLABELLED, epoch))
        size = min(self._config.optim.batch_size, len(self._unlabelled))
        return [generator.choice(self._unlabelled, size, replace=False) for _ in range(self._steps)]

    def _step(self, epoch: int, step: int, batch: Batch, other: Batch | None) -> float:
        optim, done = self._config.optim, (epoch - 1) * self._steps + step
        factor = learning_rate(done, optim.warmup * self._steps, optim.epochs * self._steps, optim.schedule)
        for group in self._optimiser.param_groups:
            group["lr"] = factor * group["peak"]
        seed_generators(seed_of(self._seed, DROPOUT, epoch, step), self._device)
        heard = self.model.train().hear(batch)
        losses = []
        for share in self.model.absences():
            vectors = self.model.encode(heard)
            losses.append(share * self._mixed_loss(self.model.decide(vectors), batch.targets, heard.mix))
        loss = torch.stack(losses).sum()
        if other is not None:
            loss = loss + self._distance(vectors, batch, other, done / (optim.epochs * self._steps))
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), optim.clip)
        self._optimiser.step()
        return float(loss.detach())

    def _mixed_loss(self, outputs: Outputs, targets: Targets, mix: Mix | None) -> torch.Tensor:
        """Return the loss, for utterances that are mixed that of both, each by its share."""
        loss = self._loss(outputs, targets)
        if mix is None:
            return loss
        partners = {task: values[mix.partners.cpu()] for task, values in targets.items()}
        return mix.share * loss + (1 - mix.share) * self._loss(outputs, partners)

    def _loss(self, outputs: Outputs, targets: Targets) -> torch.Tensor:
        """Return the loss of all tasks, where it is learned each by its uncertainty (Kendall, Gal and Cipolla 2018).

        A task of which no utterance has a label says nothing of its uncertainty.
        """
        total = torch.zeros((), device=next(iter(outputs.values())).device)
        for number, (task, goal) in enumerate(self._examples.goals.items()):
            loss = self._losses[task](outputs[task], targets[task].to(total.device))
            if len(self.model.log_variances) and _has_labels(goal, targets[task]):
                log_variance = self.model.log_variances[number]
                loss = loss * torch.exp(-log_variance) + log_variance
            total = total + goal.task.weight * loss
        return total

    def _distance(self, vectors: torch.Tensor, batch: Batch, other: Batch, done: float) -> torch.Tensor:
        """Return the weighted distance between the corpora; ``done`` is the share of the training that is done."""
        lmmd, (task, goal) = self._config.lmmd, next(iter(self._examples.goals.items()))
        assert lmmd is not None
        others = self.model.vectors(other)
        shares = torch.nn.functional.one_hot(batch.targets[task].clamp(min=0), goal.outputs).to(vectors)
        labelled = (batch.targets[task] >= 0).to(vectors)
        probabilities = self.model.decide(others)[task].softmax(dim=-1)
        return lmmd.weight_at(done) * lmmd(vectors, shares * labelled[:, None], others, probabilities)

    def _score_on_dev(self, number: int, clock: _Clock) -> Generator[None, None, float]:
        size = self._config.optim.batch_size
        found: list[list[Outputs]] = []
        windows = self._examples.windows(self._dev, self._pass_of(number), self._config.optim.window)
        rows = [window[np.argsort(self._examples.lengths[window], kind="stable")] for window in windows]
        for window in rows:
            batches = [window[i : i + size] for i in range(0, len(window), size)]
            found.append([predict(self.model, self._examples, batches) for _ in self.model.absences()])
            clock("select")
            yield
            clock("")
        scores = []
        for share, parts in zip(self.model.absences(), zip(*found, strict=True), strict=True):
            outputs = {task: torch.cat([one[task] for one in parts]) for task in self._examples.goals}
            scores.append(share * selection_score(self._examples, np.concatenate(rows), outputs))
        return float(np.sum(scores))

    def _pass_of(self, epoch: int) -> int:
        """Return which pass over the store an epoch is, from the beginning of the variant on."""
        return self._passed + epoch

    def _note(self, number: int, score: float, note: dict[str, float]) -> None:
        self.progress.history.append(note)
        if not score < self.progress.best_score:  # of equal ones the later, which has been trained for longer
            state = {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}
            self.progress.best_score, self.progress.best_epoch, self.progress.best_state = score, number, state


def check_adaptation(examples: Examples, unlabelled: Sequence[str]) -> None:
    """Check that a model can be adapted.

    Raises:
        SerError: if there is no unlabelled utterance, or the task is no single classification.
    """
    if not unlabelled:
        raise SerError("lmmd adapts to utterances that are not labelled: expected splits=datasets with adapt=K")
    if [goal.task.name for goal in examples.goals.values()] != ["classification"]:
        raise SerError("lmmd adapts one classification: expected one target that names categories")


def _has_labels(goal: Goal, targets: torch.Tensor) -> bool:
    return not all(bool(absent.all()) for absent in goal.missing(targets).values())


def _below(tensors: Tensors, prefix: str) -> Tensors:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
