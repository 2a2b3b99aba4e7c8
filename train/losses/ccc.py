"""One minus the concordance correlation coefficient, the mean over the targets."""

from __future__ import annotations

from typing import ClassVar

import torch
from typing_extensions import override

from train.losses import Kind, Loss

SMALLEST_SPREAD = 1e-8  # a batch of one utterance has none


class CCC(Loss):
    """1 - CCC with population moments, in [0, 2]; see `train.numerics.metrics.ccc`."""

    task: ClassVar[Kind] = "regression"

    @override
    def __call__(self, predicted: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
        there = true.isfinite()
        count = there.sum(dim=0).clamp(min=1)
        p, t = torch.where(there, predicted, 0), torch.where(there, true, 0)
        mean_p, mean_t = p.sum(dim=0) / count, t.sum(dim=0) / count
        p, t = torch.where(there, predicted - mean_p, 0), torch.where(there, t - mean_t, 0)
        spread = (p.square().sum(dim=0) + t.square().sum(dim=0)) / count + (mean_p - mean_t).square()
        concordance = 2 * (p * t).sum(dim=0) / count / (spread + SMALLEST_SPREAD)
        labelled = there.any(dim=0)
        return ((1 - concordance) * labelled).sum() / labelled.sum().clamp(min=1)
