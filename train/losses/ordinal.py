"""How far the probabilities would have to be carried to the true class, along classes that have an order.

Source: Hou, Yu and Samaras (2016), Squared Earth Mover's Distance-based Loss for Training Deep Neural Networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from typing_extensions import override

from featurestore.shared.errors import SerError
from train.losses import Kind, Loss, LossOf


class Ordinal(Loss):
    """Sum over classes of the squared difference of the cumulated probabilities; a class that is near costs little."""

    task: ClassVar[Kind] = "classification"

    order: tuple[str, ...] | None = None
    """The classes from the lowest to the highest; by their values when absent, which then have to be numbers."""

    @override
    def check(self, classes: Sequence[str]) -> None:
        if self.order is not None and sorted(self.order) != sorted(classes):
            raise SerError(f"loss.order names {', '.join(self.order)}; the classes are {', '.join(classes)}")
        if self.order is None and not all(_is_number(name) for name in classes):
            raise SerError(f"loss=ordinal needs the order of {', '.join(classes)}: loss.order=[LOWEST, …]")

    @override
    def of_classes(self, classes: Sequence[str], counts: torch.Tensor) -> LossOf:
        order = sorted(classes, key=float) if self.order is None else self.order
        place = torch.tensor([list(classes).index(name) for name in order])
        rank = place.argsort()
        return lambda predicted, true: self(predicted[:, place.to(predicted.device)], rank.to(predicted.device)[true])

    @override
    def __call__(self, predicted: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
        shares = torch.nn.functional.one_hot(true, predicted.shape[-1])
        apart = (predicted.softmax(dim=-1) - shares).cumsum(dim=-1)
        return apart.square().sum(dim=-1).mean()


def _is_number(name: str) -> bool:
    try:
        float(name)
    except ValueError:
        return False
    return True
