"""The front of every model: hidden states of all layers, normalised per layer, summed with learned softmax weights."""

from __future__ import annotations

import torch
from torch import nn

WIDEST = 8192
"""Channels of anything in a model."""
SMALLEST_SD = 1e-3  # a channel that is all but constant must not be blown up


class LayerSum(nn.Module):
    """Packed states (layers, frames, dim) -> (frames, dim).

    Args:
        mean: of each layer and channel over the training utterances, (layers, dim).
        sd: the same.
    """

    def __init__(self, mean: torch.Tensor, sd: torch.Tensor) -> None:
        super().__init__()
        self.mean: torch.Tensor
        self.sd: torch.Tensor
        self.register_buffer("mean", mean)
        self.register_buffer("sd", sd.clamp(min=SMALLEST_SD))
        self.logits = nn.Parameter(torch.zeros(len(mean)))

    def weights(self) -> torch.Tensor:
        """Return the weight of each layer, (layers,); they sum to one."""
        return self.logits.softmax(dim=0)

    def forward(self, states: torch.Tensor) -> torch.Tensor:  # noqa: D102
        with torch.no_grad():
            normalised = torch.addcmul(-self.mean[:, None] / self.sd[:, None], states, 1 / self.sd[:, None])
        return (self.weights() @ normalised.flatten(1)).view(states.shape[1:])
