"""Losses: how far predictions are from the targets, on one batch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from typing_extensions import override

from featurestore.shared.config import Component
from featurestore.shared.errors import SerError

Kind = Literal["regression", "classification", "votes"]
LossOf = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Of what is predicted and what is true; see `Loss.__call__`."""


class Loss(Component, ABC):
    """A loss to be minimised."""

    task: ClassVar[Kind]
    """Of which tasks it is a loss."""

    @abstractmethod
    def __call__(self, predicted: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
        """Return the loss, a scalar.

        Args:
            predicted: (batch, targets); for a classification the logits, (batch, classes).
            true: (batch, targets) in units of the declared range, NaN where there is no label; for a classification
                class numbers, (batch,), of those that have one; for votes the share of each class, (batch, classes).
        """

    def check(self, classes: Sequence[str]) -> None:
        """Check that it can be the loss of these classes.

        Raises:
            SerError: if its settings name others, or not enough of them.
        """

    def of_classes(self, classes: Sequence[str], counts: torch.Tensor) -> LossOf:
        """Return the loss of classes with these names, of which the training part has so many utterances."""
        return self


class WeightedLoss(Loss):
    """A loss of classes that may count differently."""

    weights: Literal["balanced"] | dict[str, Annotated[float, Field(gt=0, le=1e6)]] | None = None
    """Of each class by its name, 1 where it is not named; ``balanced``: the utterances of the training part, divided by
    those of the class and by the number of classes; all 1 when absent."""

    @abstractmethod
    def weighted(self, predicted: torch.Tensor, true: torch.Tensor, weights: torch.Tensor | None) -> torch.Tensor:
        """Return the loss with weights of the classes, (classes,), or none."""

    @override
    def __call__(self, predicted: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
        return self.weighted(predicted, true, None)

    @override
    def check(self, classes: Sequence[str]) -> None:
        unknown = sorted(set(self.weights) - set(classes)) if isinstance(self.weights, dict) else []
        if unknown:
            raise SerError(f"loss.weights names {', '.join(unknown)}; the classes are {', '.join(classes)}")

    @override
    def of_classes(self, classes: Sequence[str], counts: torch.Tensor) -> LossOf:
        if self.weights is None:
            return self
        if isinstance(self.weights, dict):
            weights = torch.tensor([self.weights.get(name, 1.0) for name in classes])
        else:
            weights = counts.sum() / (len(classes) * counts.clamp(min=1))
        return lambda predicted, true: self.weighted(predicted, true, weights.to(predicted))
