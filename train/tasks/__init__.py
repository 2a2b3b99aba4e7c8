"""Tasks: what is predicted, the loss that trains it, the score that selects, and what is written of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import pandas as pd
import torch
from pydantic import Field

from featurestore.shared.config import Component
from train.losses import LossOf
from train.numerics.metrics import Floats, Groups, Measured, Metric
from train.reading.labels import Scale

Figures = dict[str, tuple[Floats, Callable[[Floats], Floats]]]
"""For each target the sums per group, and the metric that selects, which is computed from such sums."""


class Goal(ABC):
    """A task and what it takes from the labels: categories, or declared ranges.

    Attributes:
        task: its settings.
        outputs: how many numbers a model predicts for it.
        metrics: of each target, by name.
    """

    task: Task
    outputs: int
    metrics: dict[str, Metric]

    @abstractmethod
    def targets(self, table: pd.DataFrame) -> torch.Tensor:
        """Return what is to be predicted.

        Returns:
            (utterances, targets), NaN where there is no label, after which a task may have columns of its own; or class
            numbers (utterances,), below 0 where there is none. Class numbers with more beside them have `labels`.
        """

    @abstractmethod
    def missing(self, targets: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return for each target which utterances have no label."""

    @abstractmethod
    def check(self, folds: list[dict[str, torch.Tensor]]) -> list[str]:
        """Return what is odd about the targets of the train, dev and test part of each fold, a line each.

        Raises:
            SerError: if nothing can be learned from a training part, or seen in the test parts.
        """

    @abstractmethod
    def loss(self, output: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the loss on a batch, a scalar; zero where no utterance has a label."""

    def fitted(self, targets: torch.Tensor) -> LossOf:
        """Return the `loss` that a training part with these targets gives."""
        return self.loss

    def labels(self, targets: torch.Tensor) -> torch.Tensor:
        """Return what is measured of the targets: themselves, or class numbers where these are more than that."""
        return targets

    @abstractmethod
    def represent(self, output: torch.Tensor) -> torch.Tensor:
        """Return outputs (…, utterances, outputs) as what can be averaged over models: values, or probabilities."""

    @abstractmethod
    def measured(self, targets: torch.Tensor, predicted: torch.Tensor, groups: Groups) -> dict[str, Measured]:
        """Return for each target the sums per group of what is represented so, and all its metrics."""

    def figures(self, targets: torch.Tensor, predicted: torch.Tensor, groups: Groups) -> Figures:
        """Return for each target the sums per group of what is represented so, and the metric that selects."""
        measured = self.measured(targets, predicted, groups)
        return {target: (one.sums, one.metrics[self.metrics[target]]) for target, one in measured.items()}

    @abstractmethod
    def truth(self, table: pd.DataFrame) -> pd.DataFrame:
        """Return the labels by name, in the units of the dataset."""

    @abstractmethod
    def decode(self, predicted: torch.Tensor) -> dict[str, Any]:
        """Return a column for each target: what is represented so, in the units of the dataset."""

    def scores(self, predicted: torch.Tensor) -> dict[tuple[str, str], Any]:
        """Return a column for each target and class: what is represented so of it; none of numbers."""
        return {}

    @abstractmethod
    def spread(self, members: torch.Tensor) -> dict[str, Any]:
        """Return a column for each target: how far members, (members, utterances, outputs), are from each other."""

    def curves(self, predicted: torch.Tensor) -> dict[str, Any]:
        """Return columns by chunk, (utterances, chunks), of what is represented so; none where it hears no chunks."""
        return {}

    def of_fold(self, fold: int) -> Goal:
        """Return the goal by which the models of a fold are trained."""
        return self

    @abstractmethod
    def described(self) -> dict[str, Any]:
        """Return what was taken from the labels, as JSON; see `Task.goal`."""


class Task(Component, ABC):
    """Something to be predicted."""

    by_chunk: ClassVar[bool] = False
    """Whether it is also predicted for each chunk, where the pooling has chunks: then the outputs of the chunks follow
    those of the utterance."""
    compares: ClassVar[bool] = False
    """Whether its loss compares the utterances of a batch, which are then drawn at random, whatever their lengths."""

    weight: float = Field(default=1.0, gt=0, le=1e6)
    """Of its loss beside those of other tasks."""

    @property
    def trains_whole(self) -> bool:
        """Whether its loss is of whole utterances; otherwise, where there are chunks, of these alone."""
        return True

    @property
    @abstractmethod
    def columns(self) -> tuple[str, ...]:
        """The columns of labels that it takes."""

    @abstractmethod
    def learn(self, table: pd.DataFrame, scales: Mapping[str, Scale], place: str) -> Goal:
        """Return the goal that the labels of some utterances give.

        Args:
            table: of the utterances.
            scales: that the dataset declares, by column.
            place: the store, for messages.

        Raises:
            SerError: if the labels cannot be that.
        """

    @abstractmethod
    def goal(self, described: Mapping[str, Any]) -> Goal:
        """Return a goal that was `described`."""
