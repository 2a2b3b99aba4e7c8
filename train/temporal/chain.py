"""Temporal models one after another, such as convolutions over a spectrogram and a conformer upon them."""

from __future__ import annotations

import math
from typing import Any

import torch
from pydantic import field_validator
from torch import nn
from typing_extensions import override

from train.numerics.sequences import Sequences
from train.temporal import Temporal, TemporalModule
from train.temporal.bilstm import BiLSTM
from train.temporal.mel_cnn import MelCNN


class Chain(Temporal):
    """One after another."""

    steps: tuple[Temporal, ...] = (MelCNN(), BiLSTM())
    """The models, each with its settings."""

    @field_validator("steps", mode="before")
    @classmethod
    def _are_several(cls, steps: Any) -> Any:
        return [steps] if isinstance(steps, str | dict) else steps

    @field_validator("steps")
    @classmethod
    def _are_some(cls, steps: tuple[Temporal, ...]) -> tuple[Temporal, ...]:
        if not 1 <= len(steps) <= 8:
            raise ValueError(f"expected 1 to 8 temporal models, found {len(steps)}")
        return steps

    @property
    @override
    def every(self) -> int:
        return math.prod(step.every for step in self.steps)

    @override
    def build(self, dim: int) -> TemporalModule:
        return InTurn(dim, self)


class InTurn(TemporalModule):
    """See `Chain`."""

    def __init__(self, dim: int, settings: Chain) -> None:
        super().__init__()
        steps: list[TemporalModule] = []
        for step in settings.steps:
            steps.append(step.build(steps[-1].dim if steps else dim))
        self.steps, self.dim = nn.ModuleList(steps), steps[-1].dim

    @override
    def forward(self, frames: torch.Tensor, mask: torch.Tensor) -> Sequences:
        found = Sequences(frames, mask)
        for step in self.steps:
            found = step(*found)
        return found
