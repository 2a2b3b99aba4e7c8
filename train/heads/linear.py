"""A linear map."""

from __future__ import annotations

from torch import nn
from typing_extensions import override

from train.heads import Head


class Linear(Head):
    """Linear, as in system after system of the field."""

    @override
    def build(self, dim: int, outputs: int) -> nn.Module:
        return nn.Linear(dim, outputs)
