"""Cross-entropy of categories."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field

from train.losses import Kind, Loss


class CrossEntropy(Loss):
    """Cross-entropy, with label smoothing if wanted."""

    task: ClassVar[Kind] = "classification"

    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Share of each target that is spread over all classes."""

    def __call__(self, predicted: torch.Tensor, true: torch.Tensor) -> torch.Tensor:  # noqa: D102
        return torch.nn.functional.cross_entropy(predicted, true, label_smoothing=self.label_smoothing)
