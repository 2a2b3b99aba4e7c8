"""The mean squared error."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch

from train.losses import Loss


class MSE(Loss):
    """Mean squared error, of targets scaled to their declared range."""

    task: ClassVar[Literal["regression", "classification"]] = "regression"

    def __call__(self, predicted: torch.Tensor, true: torch.Tensor) -> torch.Tensor:  # noqa: D102
        return torch.nn.functional.mse_loss(predicted, true)
