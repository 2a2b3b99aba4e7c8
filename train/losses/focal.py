"""Cross-entropy in which what is recognised already counts little.

Source: Lin, Goyal, Girshick, He and Dollar (2017), Focal Loss for Dense Object Detection, ICCV. The probability of the
true class is that of the softmax alone: where it is taken from the weighted cross-entropy, as one of the reference
systems does, the weight of a class also changes how easy its utterances seem.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from typing_extensions import override

from train.losses import Kind, WeightedLoss

SMALLEST = 1e-6  # a power below one has no gradient at zero


class Focal(WeightedLoss):
    """Mean of ``weight * (1 - p) ** gamma * -log(p)``, where p is the probability of the true class."""

    task: ClassVar[Kind] = "classification"

    gamma: float = Field(default=2.0, ge=0, le=20)
    """How little; with 0 it is the cross-entropy."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Share of each target that is spread over all classes, each of which then counts by its share."""

    @override
    def weighted(self, predicted: torch.Tensor, true: torch.Tensor, weights: torch.Tensor | None) -> torch.Tensor:
        logs, classes = predicted.log_softmax(dim=-1), predicted.shape[-1]
        shares = torch.nn.functional.one_hot(true, classes) * (1 - self.label_smoothing)
        shares = shares + self.label_smoothing / classes
        hard = (1 - logs.exp()).clamp(min=SMALLEST) ** self.gamma
        loss = -(shares * hard * logs).sum(dim=-1)
        return (loss if weights is None else loss * weights[true]).mean()
