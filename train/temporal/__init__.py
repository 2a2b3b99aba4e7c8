"""Temporal models: from the frames of a stream, on its own clock, to frames that know what is around them."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import nn
from typing_extensions import override

from featurestore.shared.config import Component
from train.numerics.sequences import Sequences


class TemporalModule(nn.Module):
    """A temporal model: frames (batch, time, dim_in), mask (batch, time) -> `Sequences`.

    What the padding holds does not change the frames of the mask, in training neither.

    Attributes:
        dim: channels of a frame.
    """

    dim: int

    @override
    def forward(self, frames: torch.Tensor, mask: torch.Tensor) -> Sequences:
        raise NotImplementedError


class Temporal(Component, ABC):
    """A model of a stream over time."""

    @property
    def every(self) -> int:
        """One frame comes out for so many that go in; the last one may be of fewer."""
        return 1

    @abstractmethod
    def build(self, dim: int) -> TemporalModule:
        """Return the module for frames of ``dim`` channels."""


class ToWidth(nn.Sequential):
    """Frames of ``dim`` channels -> frames of ``width``: linear, or as they are where there is nothing to change."""

    def __init__(self, dim: int, width: int) -> None:
        super().__init__(*([] if dim == width else [nn.Linear(dim, width)]))
