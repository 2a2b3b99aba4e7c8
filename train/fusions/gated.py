"""For each frame and channel a learned share of each stream, by what all of them hold.

Source: Arevalo, Solorio, Montes-y-Gomez and Gonzalez (2017), Gated Multimodal Units for Information Fusion. The gate of
two streams there is a sigmoid; the softmax here is the same for two, and its shares also sum to one for more.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn
from typing_extensions import override

from train.fusions import Fusion, FusionModule, one_width
from train.numerics.sequences import Sequences


class Gated(Fusion):
    """The sum of tanh(linear) of each stream, times its share."""

    @override
    def build(self, widths: Mapping[str, int]) -> FusionModule:
        return GatedUnit(one_width(self, widths), len(widths))


class GatedUnit(FusionModule):
    """See `Gated`."""

    def __init__(self, width: int, streams: int) -> None:
        super().__init__()
        self.maps = nn.ModuleList(nn.Linear(width, width) for _ in range(streams))
        self.gates = nn.Linear(streams * width, streams * width)
        self.dim = width

    @override
    def forward(self, streams: dict[str, Sequences]) -> Sequences:
        values = [stream.values for stream in streams.values()]
        mapped = torch.stack([one(value).tanh() for one, value in zip(self.maps, values, strict=True)], dim=-2)
        shares = self.gates(torch.cat(values, dim=-1)).unflatten(-1, (len(values), self.dim)).softmax(dim=-2)
        return Sequences((shares * mapped).sum(dim=-2), next(iter(streams.values())).mask)
