"""A weighted sum of streams with one learned share each: for two, ``a * first + (1 - a) * second`` with a in [0, 1]."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn
from typing_extensions import override

from train.fusions import Fusion, FusionModule, one_width
from train.numerics.sequences import Sequences


class ScalarMix(Fusion):
    """The sum of the streams, each as its embedding maps it, by a softmax of one number each; equal to begin with."""

    @override
    def build(self, widths: Mapping[str, int]) -> FusionModule:
        return Mix(one_width(self, widths), len(widths))


class Mix(FusionModule):
    """See `ScalarMix`."""

    def __init__(self, width: int, streams: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(streams))
        self.dim = width

    @override
    def forward(self, streams: dict[str, Sequences]) -> Sequences:
        values = torch.stack([stream.values for stream in streams.values()], dim=-1)
        return Sequences(values @ self.logits.softmax(dim=0).to(values.dtype), next(iter(streams.values())).mask)
