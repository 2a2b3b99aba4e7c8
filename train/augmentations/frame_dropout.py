"""Frames that are not heard."""

from __future__ import annotations

import torch
from pydantic import Field
from typing_extensions import override

from train.augmentations import OfFrames
from train.numerics.sequences import Packed


class FrameDropout(OfFrames):
    """Zeros in place of some frames, each drawn by itself."""

    share: float = Field(default=0.1, gt=0, lt=1)
    """Of the frames that are left out."""

    @override
    def changed(self, packed: Packed) -> torch.Tensor:
        there = torch.rand(len(packed.values), device=packed.values.device) >= self.share
        return packed.values * there[:, None]
