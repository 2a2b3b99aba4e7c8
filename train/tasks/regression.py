"""Numbers on declared scales, such as valence, arousal and dominance."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import torch
from pydantic import Field, field_validator, model_validator
from typing_extensions import override

from featurestore.shared.errors import SerError
from train.losses import Loss
from train.losses.ccc import CCC
from train.numerics.metrics import Floats, Groups, Measured, ccc_of, concordance_sums, mae_of, pcc_of, r2_of, rmse_of
from train.reading.labels import TOLERANCE, Scale, numbers
from train.tasks import Goal, Task


class Regression(Task):
    """Any columns of numbers whose ranges are declared."""

    targets: tuple[str, ...] = ("V", "A", "D")
    """The columns."""
    loss: Loss = CCC()
    """What is minimised."""
    ranges: dict[str, tuple[float, float]] = Field(default={})
    """The range of a column, where the dataset declares none, or another one."""

    @property
    @override
    def columns(self) -> tuple[str, ...]:
        return self.targets

    @field_validator("targets")
    @classmethod
    def _are_some(cls, targets: tuple[str, ...]) -> tuple[str, ...]:
        if not targets or len(set(targets)) < len(targets):
            raise ValueError(f"expected one or more columns, each once, found [{','.join(targets)}]")
        return targets

    @model_validator(mode="after")
    def _ranges_are_of_targets(self) -> Regression:
        others = sorted(set(self.ranges) - set(self.targets))
        if others:
            raise ValueError(f"found a range of {', '.join(others)}, which is none of the targets")
        return self

    @field_validator("loss")
    @classmethod
    def _fits(cls, loss: Loss) -> Loss:
        if loss.task != "regression":
            raise ValueError(f"{loss.name} is a loss of {loss.task}, expected one of regression")
        return loss

    @override
    def learn(self, table: pd.DataFrame, scales: Mapping[str, Scale], place: str) -> Goal:
        return RegressionGoal(self, {one: declared_scale(one, self.ranges, scales, place) for one in self.targets})

    @override
    def goal(self, described: Mapping[str, Any]) -> Goal:
        return RegressionGoal(self, {target: (low, high) for target, (low, high) in described["ranges"].items()})


def declared_scale(target: str, ranges: Mapping[str, Scale], scales: Mapping[str, Scale], place: str) -> Scale:
    """Return the range of a column.

    Args:
        target: the column.
        ranges: that a task gives.
        scales: that the dataset declares.
        place: the store, for messages.

    Raises:
        SerError: if there is none, or it is none.
    """
    scale = ranges.get(target, scales.get(target))
    if scale is None or not (np.isfinite(scale).all() and scale[0] < scale[1]):
        found = f"{scale[0]:g} to {scale[1]:g}" if scale else "none"
        raise SerError(f"{place}: expected a scale for {target}, found {found}: extract it with dataset.ranges")
    return scale


class RegressionGoal(Goal):
    """See `Regression`.

    Args:
        task: its settings.
        ranges: the declared range of each target.
    """

    task: Regression

    def __init__(self, task: Regression, ranges: dict[str, Scale]) -> None:
        self.task, self.ranges = task, ranges
        self.outputs, self.metrics = len(ranges), dict.fromkeys(ranges, "CCC")

    @override
    def truth(self, table: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame({target: numbers(table, target, scale) for target, scale in self.ranges.items()})

    @override
    def targets(self, table: pd.DataFrame) -> torch.Tensor:
        return torch.from_numpy((self.truth(table).to_numpy() - self._low) / self._width).float()

    @override
    def missing(self, targets: torch.Tensor) -> dict[str, torch.Tensor]:
        return dict(zip(self.ranges, targets.isnan().T, strict=True))

    @override
    def check(self, folds: list[dict[str, torch.Tensor]]) -> list[str]:
        remarks = []
        for column, target in enumerate(self.ranges):
            parts = [{part: values[:, column] for part, values in fold.items()} for fold in folds]
            everything = torch.cat([values for fold in parts for values in fold.values()])
            if not _varies(torch.cat([fold["test"] for fold in parts])):
                where = "all test parts" if _varies(everything) else "all utterances"
                raise SerError(
                    f"label {target} is the same in {where}: there is nothing to predict; leave it out of targets"
                )
            for number, fold in enumerate(parts):
                if not _varies(fold["train"]):
                    raise SerError(
                        f"fold {number}: label {target} is the same in all of train: nothing can be learned from it"
                    )
                if not _varies(fold["dev"]):
                    remarks.append(
                        f"fold {number}: label {target} is the same in all of dev: it has no say in the selection"
                    )
        return remarks

    @override
    def loss(self, output: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return self.task.loss(output, targets)

    def represent(self, output: torch.Tensor) -> torch.Tensor:
        """Return what is predicted, within the declared range: no label lies outside."""
        return output.clamp(0, 1)

    def measured(self, targets: torch.Tensor, predicted: torch.Tensor, groups: Groups) -> dict[str, Measured]:
        """Return the sums and metrics of each target; RMSE and MAE are in the units of the dataset."""
        found: dict[str, Measured] = {}
        for column, (target, (low, high)) in enumerate(self.ranges.items()):
            there = targets[:, column].isfinite().numpy()
            true, values = (part[:, column].double().numpy()[there] for part in (targets, predicted))
            sums = concordance_sums(true, values, groups[there], int(groups.max()) + 1)
            errors = {"RMSE": _scaled(rmse_of, high - low), "MAE": _scaled(mae_of, high - low)}
            found[target] = Measured(sums, {"CCC": ccc_of, "PCC": pcc_of, **errors, "R2": r2_of})
        return found

    @override
    def decode(self, predicted: torch.Tensor) -> dict[str, Any]:
        values = self._low + self._width * predicted.double().numpy()
        return dict(zip(self.ranges, values.T, strict=True))

    @override
    def spread(self, members: torch.Tensor) -> dict[str, Any]:
        deviation = self._width * members.double().std(dim=0, correction=0).numpy()
        return {f"{target}_sd": column for target, column in zip(self.ranges, deviation.T, strict=True)}

    @override
    def described(self) -> dict[str, Any]:
        return {"ranges": {target: list(scale) for target, scale in self.ranges.items()}}

    @cached_property
    def _low(self) -> Any:
        return np.array([low for low, _ in self.ranges.values()])

    @cached_property
    def _width(self) -> Any:
        return np.array([high - low for low, high in self.ranges.values()])


def _scaled(metric: Callable[[Floats], Floats], width: float) -> Callable[[Floats], Floats]:
    return lambda sums: width * metric(sums)


def _varies(values: torch.Tensor) -> bool:
    there = values[values.isfinite()]
    return len(there) > 0 and float(there.max() - there.min()) > TOLERANCE
