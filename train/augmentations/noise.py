"""Gaussian noise."""

from __future__ import annotations

import torch
from pydantic import Field
from typing_extensions import override

from train.augmentations import OfFrames
from train.numerics.sequences import Packed


class Noise(OfFrames):
    """Noise on every channel of every frame."""

    sd: float = Field(default=0.1, gt=0, le=100)
    """Its standard deviation, in those of the channels."""
    share: float = Field(default=1.0, gt=0, le=1)
    """Of the utterances that have it in a step."""

    @override
    def changed(self, packed: Packed) -> torch.Tensor:
        has = torch.rand(len(packed.lengths), device=packed.values.device) < self.share
        return packed.values + self.sd * torch.randn_like(packed.values) * has[packed.owners()][:, None]
