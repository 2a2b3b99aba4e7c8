"""Which of two utterances has more of it: scores whose order is that of the raters' preferences."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from pydantic import Field, field_validator, model_validator
from typing_extensions import override

from featurestore.shared.errors import SerError
from train.curves.heads import by_place
from train.curves.ordering import kendall_of, order_sums, pairwise_accuracy_of, spearman_of
from train.curves.pairs import Pairs
from train.curves.preferences import THRESHOLD, agreement, ratings_of
from train.curves.ranks import rank_columns
from train.numerics.metrics import Groups, Measured
from train.reading.labels import TOLERANCE, Scale, numbers
from train.shared.files import AnyPath
from train.tasks import Goal, Task
from train.tasks.regression import declared_scale

LEVEL = 0.01
"""Weight of the squared mean of the scores of the utterances of a batch that were rated."""


class Ranking(Task):
    """A score of any columns that raters rated, by RankNet over the pairs of a batch that they agree on.

    Where the pooling has chunks each chunk is scored, and chunk k of one utterance is compared with chunk k of the
    other. Source: C. Burges et al. (2005), Learning to rank using gradient descent.
    """

    by_chunk: ClassVar[bool] = True
    compares: ClassVar[bool] = True

    targets: tuple[str, ...] = ("V", "A", "D")
    """The columns, each of which the store also has in ``ratings``, what each rater said."""
    threshold: float = Field(default=THRESHOLD, gt=0.5, le=1)
    """Share of the pairs of raters that must say the same of two utterances."""
    pairs: dict[str, AnyPath] = Field(default={})
    """Of each target a file of pairs that train, as ``ser-train prefer`` writes it; when absent all that raters agree
    on."""

    @property
    @override
    def trains_whole(self) -> bool:
        return False

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
    def _all_or_none_have_pairs(self) -> Ranking:
        if self.pairs and set(self.pairs) != set(self.targets):
            raise ValueError(f"expected pairs of each of {', '.join(self.targets)}, found of {', '.join(self.pairs)}")
        return self

    @override
    def learn(self, table: pd.DataFrame, scales: Mapping[str, Scale], place: str) -> Goal:
        ranges = {target: declared_scale(target, {}, scales, place) for target in self.targets}
        raters = max(ratings_of(table, target).shape[1] for target in self.targets)
        return RankingGoal(self, ranges, raters, _hashes(self.pairs))

    @override
    def goal(self, described: Mapping[str, Any]) -> Goal:
        ranges = {target: (low, high) for target, (low, high) in described["ranges"].items()}
        return RankingGoal(self, ranges, described["raters"], dict(described["pairs_sha256"]))


class RankingGoal(Goal):
    """See `Ranking`.

    Its targets are the consensus of each column, in units of the declared range, then what each rater said of each, and
    where there are files of pairs the number of the utterance in each of them.

    Args:
        task: its settings.
        ranges: the declared range of each target.
        raters: most of an utterance.
        hashes: of the files of pairs.
    """

    task: Ranking

    def __init__(self, task: Ranking, ranges: dict[str, Scale], raters: int, hashes: dict[str, str]) -> None:
        self.task, self.ranges, self.raters, self._hashes = task, ranges, raters, hashes
        self.outputs, self.metrics = len(ranges), dict.fromkeys(ranges, "pairwise_accuracy")

    @override
    def truth(self, table: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame({target: numbers(table, target, scale) for target, scale in self.ranges.items()})

    @override
    def targets(self, table: pd.DataFrame) -> torch.Tensor:
        consensus, ratings = (
            self.truth(table).to_numpy(copy=True),
            np.full((len(table), self.outputs, self.raters), np.nan),
        )
        for column, target in enumerate(self.ranges):
            said = ratings_of(table, target)[:, : self.raters]
            ratings[:, column, : said.shape[1]] = said
        consensus[~np.isfinite(ratings).any(axis=2)] = np.nan
        ratings[np.isnan(consensus)] = np.nan
        low, high = np.array(list(self.ranges.values())).T
        parts = [(consensus - low) / (high - low), ratings.reshape(len(table), -1)]
        parts += [pairs.numbers(list(table.index))[:, None] for pairs in self._pairs]
        return torch.from_numpy(np.concatenate(parts, axis=1))  # float64: shares of raters are exact

    @cached_property
    def _pairs(self) -> list[Pairs]:
        """The pairs of each target, which only training needs."""
        found = _hashes(self.task.pairs)
        changed = [str(self.task.pairs[target]) for target in found if found[target] != self._hashes[target]]
        if changed:
            raise SerError(f"{', '.join(changed)} has changed since the run began")
        return [Pairs.read(self.task.pairs[target]) for target in self.ranges if self.task.pairs]

    @override
    def missing(self, targets: torch.Tensor) -> dict[str, torch.Tensor]:
        return dict(zip(self.ranges, targets[:, : self.outputs].isnan().T, strict=True))

    @override
    def check(self, folds: list[dict[str, torch.Tensor]]) -> list[str]:
        remarks = []
        for number, fold in enumerate(folds):
            for column, target in enumerate(self.ranges):
                preferred = {part: bool(self._any(values, column)) for part, values in fold.items()}
                if not preferred["train"]:
                    raise SerError(
                        f"fold {number}: no two utterances of train differ in {target}: nothing can be learned"
                    )
                if not preferred["test"]:
                    raise SerError(f"fold {number}: no two utterances of test differ in {target}: nothing can be seen")
                if self.task.pairs and not self._pairs[column].any_between(self._numbers(fold["train"], column)):
                    remarks.append(
                        f"fold {number}: no pair of {self.task.pairs[target]} is of two utterances of train: nothing "
                        f"is learned of {target}"
                    )
                if not preferred["dev"]:
                    remarks.append(f"fold {number}: no two utterances of dev differ in {target}: it does not select")
        return remarks

    def _any(self, values: torch.Tensor, column: int) -> bool:
        there = values[:, column][values[:, column].isfinite()]
        return len(there) > 1 and float(there.max() - there.min()) > TOLERANCE

    def _ratings(self, targets: torch.Tensor, column: int) -> torch.Tensor:
        first = self.outputs + column * self.raters
        return targets[:, first : first + self.raters]

    def _agreed(self, targets: torch.Tensor, column: int) -> torch.Tensor:
        """Return in which of every two utterances the raters hear more, (utterances, utterances); see `agreement`."""
        said = self._ratings(targets, column)
        return agreement(said, said, self.task.threshold)

    def _preferred(self, targets: torch.Tensor, column: int) -> torch.Tensor:
        """Return the same of the pairs that train."""
        if not self.task.pairs:
            return self._agreed(targets, column)
        return self._pairs[column].labels(self._numbers(targets, column))

    def _numbers(self, targets: torch.Tensor, column: int) -> torch.Tensor:
        """Return the number of each utterance in the file of pairs of a target."""
        return targets[:, self.outputs * (1 + self.raters) + column]

    def loss(self, output: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return RankNet's loss: the mean over pairs, and their chunks, of -log sigmoid(score_i - score_j).

        Differences say nothing of the level of the scores: it is drawn to 0, so that those of the models of several
        folds can be compared.
        """
        scores = by_place(output, self.outputs)
        scores = scores[:, 1:] if scores.shape[1] > 1 else scores
        losses = []
        for column in range(self.outputs):
            more, less = (self._preferred(targets, column) > 0).nonzero(as_tuple=True)
            losses.append(torch.nn.functional.softplus(scores[less, :, column] - scores[more, :, column]).flatten())
        rated = [~absent for absent in self.missing(targets).values()]
        levels = [scores[there, :, column].mean().square() for column, there in enumerate(rated) if there.any()]
        every, level = torch.cat(losses), LEVEL * sum(levels, start=0 * output.sum())
        return every.mean() + level if len(every) else level

    @override
    def represent(self, output: torch.Tensor) -> torch.Tensor:
        return output.double()

    def measured(self, targets: torch.Tensor, predicted: torch.Tensor, groups: Groups) -> dict[str, Measured]:
        """Return the sums and metrics of each target: of pairs that raters agree on, and of the order by consensus."""
        found: dict[str, Measured] = {}
        metrics = {"pairwise_accuracy": pairwise_accuracy_of, "Spearman": spearman_of, "Kendall": kendall_of}
        for column, target in enumerate(self.ranges):
            there = targets[:, column].isfinite()
            true, scores = (part[there, column].double().numpy() for part in (targets, predicted))
            labels = self._agreed(targets[there], column).numpy()
            sums = order_sums(true, scores, labels, groups[there.numpy()], int(groups.max()) + 1)
            found[target] = Measured(sums, dict(metrics))
        return found

    def decode(self, predicted: torch.Tensor) -> dict[str, Any]:
        """Return a score of each target, which has no unit: more is more."""
        return dict(zip(self.ranges, predicted[:, : self.outputs].double().numpy().T, strict=True))

    def curves(self, predicted: torch.Tensor) -> dict[str, Any]:
        """Return for each target the rank of each chunk in its utterance, ``TARGET_rank``, 1 where there is most."""
        places = by_place(predicted, self.outputs).numpy()[:, 1:]
        return rank_columns(places, list(self.ranges)) if places.shape[1] else {}

    @override
    def spread(self, members: torch.Tensor) -> dict[str, Any]:
        deviation = members[..., : self.outputs].double().std(dim=0, correction=0).numpy()
        return {f"{target}_sd": column for target, column in zip(self.ranges, deviation.T, strict=True)}

    @override
    def described(self) -> dict[str, Any]:
        ranges = {target: list(scale) for target, scale in self.ranges.items()}
        return {"ranges": ranges, "raters": self.raters, "pairs_sha256": self._hashes}


def _hashes(files: Mapping[str, Path]) -> dict[str, str]:
    found = {}
    for target, file in files.items():
        try:
            found[target] = hashlib.sha256(file.read_bytes()).hexdigest()
        except OSError as error:
            raise SerError(
                f"pairs.{target}={file} cannot be read: {error.strerror}; make it by ser-train prefer"
            ) from None
    return found
