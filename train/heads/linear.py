"""A linear map."""

from __future__ import annotations

from torch import nn

from train.heads import Head


class Linear(Head):
    """Linear, as in system after system of the field."""

    def build(self, dim: int, outputs: int) -> nn.Module:  # noqa: D102
        return nn.Linear(dim, outputs)
