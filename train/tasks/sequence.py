"""Numbers on declared scales, and how they move within each utterance: from sequence to sequence of chunks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from pydantic import Field
from typing_extensions import override

from featurestore.shared.errors import SerError
from train.curves.curve import Basis, curves_of
from train.curves.heads import by_place
from train.curves.preferences import ratings_of
from train.curves.rank_files import ranks_of, ranks_sha256
from train.numerics.metrics import Groups, Measured
from train.reading.labels import Scale
from train.shared.files import AnyPath
from train.tasks import Goal
from train.tasks.regression import Regression, RegressionGoal, declared_scale


class Sequence(Regression):
    """Numbers of an utterance, and of each of its chunks, which a ranker has put in order: see `train.curves.curve`.

    What is predicted of an utterance is the weighted mean of its chunks. Without ``ranks`` the chunks have no truth of
    their own, and their curve is what explains the whole.
    """

    by_chunk: ClassVar[bool] = True

    ranks: AnyPath | None = None
    """A folder with the order of the chunks of all utterances: ``fold_K/TARGET.json``, as ``ser-train ranks`` writes it
    for the folds of a run, or ``TARGET.json``, as published."""
    curve: Basis = "ranks"
    """What the curve of the chunks is made of: their ranks, or the published ``trend``, a step up or down from each
    chunk to the next, which forgets how far the rank moves."""
    share: float = Field(default=0.5, ge=0, le=1)
    """Of the loss of the chunks; the rest is that of the utterance."""

    @property
    @override
    def trains_whole(self) -> bool:
        return self.ranks is None or self.share < 1

    @override
    def learn(self, table: pd.DataFrame, scales: Mapping[str, Scale], place: str) -> Goal:
        ranges = {target: declared_scale(target, self.ranges, scales, place) for target in self.targets}
        if self.ranks is None:
            return SequenceGoal(self, ranges, "")
        for target in self.targets:
            ratings_of(table, target)  # which scale its curves: what is wrong with them is said at once
        return SequenceGoal(self, ranges, ranks_sha256(self.ranks, self.targets))

    @override
    def goal(self, described: Mapping[str, Any]) -> Goal:
        ranges = {target: (low, high) for target, (low, high) in described["ranges"].items()}
        return SequenceGoal(self, ranges, described["ranks_sha256"])


class SequenceGoal(RegressionGoal):
    """See `Sequence`; the targets of the chunks, chunk by chunk, follow those of the utterance.

    Args:
        task: its settings.
        ranges: the declared range of each target.
        sha256: of the files of ranks, empty without any.
        fold: whose ranks the chunks are trained by; without it there are no targets of chunks.
    """

    task: Sequence

    def __init__(self, task: Sequence, ranges: dict[str, Scale], sha256: str, fold: int | None = None) -> None:
        super().__init__(task, ranges)
        self.sha256, self.fold = sha256, fold

    @override
    def of_fold(self, fold: int) -> Goal:
        if self.task.ranks is None:
            return self
        if ranks_sha256(self.task.ranks, self.task.targets) != self.sha256:
            raise SerError(f"the ranks in {self.task.ranks} have changed since the run began")
        return SequenceGoal(self.task, self.ranges, self.sha256, fold)

    @override
    def targets(self, table: pd.DataFrame) -> torch.Tensor:
        whole = super().targets(table)
        if self.fold is None or self.task.ranks is None:
            return whole
        curves = []
        for target, (low, high) in self.ranges.items():
            ranks, there = ranks_of(self.task.ranks, self.fold, target, list(table.index))
            curve = curves_of(ranks, ratings_of(table, target), self.task.curve)
            curves.append((np.where(there[:, None], curve, np.nan) - low) / (high - low))
        chunks = torch.from_numpy(np.stack(curves, axis=-1)).float().flatten(1)
        return torch.cat([whole, chunks], dim=1)

    @override
    def missing(self, targets: torch.Tensor) -> dict[str, torch.Tensor]:
        return super().missing(targets[:, : self.outputs])

    @override
    def check(self, folds: list[dict[str, torch.Tensor]]) -> list[str]:
        return super().check([{part: values[:, : self.outputs] for part, values in fold.items()} for fold in folds])

    def loss(self, output: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the loss of the utterances, and that of all chunks of all of them together, weighted by ``share``."""
        found, wanted = (by_place(one, self.outputs) for one in (output, targets))
        whole = self.task.loss(found[:, 0], wanted[:, 0])
        if wanted.shape[1] == 1:
            return whole
        chunks = self.task.loss(found[:, 1:].flatten(0, 1), wanted[:, 1:].flatten(0, 1))
        return (1 - self.task.share) * whole + self.task.share * chunks

    def measured(self, targets: torch.Tensor, predicted: torch.Tensor, groups: Groups) -> dict[str, Measured]:
        """Return the sums and metrics of each target, of the utterances alone."""
        return super().measured(targets[:, : self.outputs], predicted[:, : self.outputs], groups)

    @override
    def decode(self, predicted: torch.Tensor) -> dict[str, Any]:
        return super().decode(predicted[..., : self.outputs])

    def curves(self, predicted: torch.Tensor) -> dict[str, Any]:
        """Return for each target its curve over the chunks, (utterances, chunks), in the units of the dataset."""
        places = by_place(predicted, self.outputs)[:, 1:].double().numpy()
        if not places.shape[1]:
            return {}
        return {
            target: low + (high - low) * places[..., column]
            for column, (target, (low, high)) in enumerate(self.ranges.items())
        }

    @override
    def described(self) -> dict[str, Any]:
        return {**super().described(), "ranks_sha256": self.sha256}

    @override
    def spread(self, members: torch.Tensor) -> dict[str, Any]:
        return super().spread(members[..., : self.outputs])
