"""The other streams scale and shift the channels of the first, frame by frame.

Source: Perez, Strub, de Vries, Dumoulin and Courville (2018), FiLM: Visual Reasoning with a General Conditioning Layer.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn
from typing_extensions import override

from train.fusions import Fusion, FusionModule
from train.numerics.sequences import Sequences


class FiLM(Fusion):
    """``(1 + scale) * first + shift``, both linear in the others side by side."""

    @override
    def build(self, widths: Mapping[str, int]) -> FusionModule:
        first, *others = widths.values()
        return FeatureWiseMap(first, sum(others))


class FeatureWiseMap(FusionModule):
    """See `FiLM`."""

    def __init__(self, width: int, others: int) -> None:
        super().__init__()
        self.conditions = nn.Linear(others, 2 * width)
        self.dim = width

    @override
    def forward(self, streams: dict[str, Sequences]) -> Sequences:
        first, *others = streams.values()
        scale, shift = self.conditions(torch.cat([other.values for other in others], dim=-1)).chunk(2, dim=-1)
        return Sequences((1 + scale) * first.values + shift, first.mask)
