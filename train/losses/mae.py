"""The mean absolute error."""

from __future__ import annotations

from typing import ClassVar

import torch
from typing_extensions import override

from train.losses import Kind, Loss


class MAE(Loss):
    """Mean absolute error, of targets scaled to their declared range."""

    task: ClassVar[Kind] = "regression"

    @override
    def __call__(self, predicted: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
        there = true.isfinite()
        error = torch.where(there, predicted - torch.where(there, true, 0), 0)
        return error.abs().sum() / there.sum().clamp(min=1)
