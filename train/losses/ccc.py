"""One minus the concordance correlation coefficient, the mean over the targets."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch

from train.losses import Loss

SMALLEST_SPREAD = 1e-8  # a batch of one utterance has none


class CCC(Loss):
    """1 - CCC with population moments, in [0, 2]; see `train.metrics.ccc`."""

    task: ClassVar[Literal["regression", "classification"]] = "regression"

    def __call__(self, predicted: torch.Tensor, true: torch.Tensor) -> torch.Tensor:  # noqa: D102
        p, t = predicted - predicted.mean(dim=0), true - true.mean(dim=0)
        distance = (predicted.mean(dim=0) - true.mean(dim=0)).square()
        spread = p.square().mean(dim=0) + t.square().mean(dim=0) + distance
        return (1 - 2 * (p * t).mean(dim=0) / (spread + SMALLEST_SPREAD)).mean()
