"""Poolings: from the frames of an utterance to one vector."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import nn

from featurestore.shared.config import Component


class PoolingModule(nn.Module):
    """A pooling: frames (batch, time, dim_in), mask (batch, time) -> (batch, dim)."""

    dim: int


class Pooling(Component, ABC):
    """A way to pool over time."""

    weighs: ClassVar[bool] = False
    """Whether its module has ``weights``: frames and mask -> the weight of each frame, (batch, time)."""

    def on_clock(self, hop: float) -> Pooling:
        """Return it for frames that are so many seconds apart; 0 where they have no clock."""
        return self

    @abstractmethod
    def build(self, dim: int) -> PoolingModule:
        """Return the module for frames of ``dim`` channels."""


def masked_mean(frames: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return the mean over the frames of the mask: (batch, time, dim), (batch, time) -> (batch, dim)."""
    weights = mask.to(frames.dtype)
    count = weights.sum(dim=1, keepdim=True, dtype=torch.float32)  # half precision cannot count beyond 256
    return torch.bmm(weights[:, None], frames)[:, 0] / count
