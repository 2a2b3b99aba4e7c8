"""How far the probabilities are from the shares of the raters' votes."""

from __future__ import annotations

from typing import ClassVar

import torch
from typing_extensions import override

from train.losses import Kind, Loss


class KL(Loss):
    """Kullback-Leibler divergence of the predicted probabilities from the shares of votes, the mean over utterances."""

    task: ClassVar[Kind] = "votes"

    @override
    def __call__(self, predicted: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.kl_div(predicted.log_softmax(dim=-1), true, reduction="batchmean")
