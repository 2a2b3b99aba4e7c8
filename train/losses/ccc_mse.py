"""Concordance and squared error together."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from typing_extensions import override

from train.losses import Kind, Loss
from train.losses.ccc import CCC
from train.losses.mse import MSE


class CCCAndMSE(Loss):
    """``share`` of 1 - CCC and the rest of the mean squared error, each as the loss of that name has it."""

    task: ClassVar[Kind] = "regression"

    share: float = Field(default=0.5, ge=0, le=1)
    """Of 1 - CCC."""

    @override
    def __call__(self, predicted: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
        return self.share * CCC()(predicted, true) + (1 - self.share) * MSE()(predicted, true)
