"""Cross-entropy of categories."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from typing_extensions import override

from train.losses import Kind, WeightedLoss


class CrossEntropy(WeightedLoss):
    """Cross-entropy, with weights of the classes and label smoothing if wanted; the mean is weighted, too."""

    task: ClassVar[Kind] = "classification"

    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Share of each target that is spread over all classes."""

    @override
    def weighted(self, predicted: torch.Tensor, true: torch.Tensor, weights: torch.Tensor | None) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(predicted, true, weights, label_smoothing=self.label_smoothing)
