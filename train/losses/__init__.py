"""Losses: how far predictions are from the targets, on one batch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Literal

import torch

from featurestore.config import Component

Kind = Literal["regression", "classification"]


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
                class numbers, (batch,), of those that have one.
        """
