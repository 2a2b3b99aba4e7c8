"""Categories as the raters voted: a model learns the share of the votes that each has, and is measured by the label."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from pydantic import Field
from typing_extensions import override

from featurestore.shared.errors import SerError
from train.losses import Kind, Loss
from train.losses.kl import KL
from train.numerics.metrics import Groups, Measured
from train.reading.labels import first_of, read_ratings, words_said
from train.tasks import Goal
from train.tasks.classification import Classification, ClassificationGoal


class Votes(Classification):
    """The categories of one column, with the votes of the raters for them."""

    kind_of_loss: ClassVar[Kind] = "votes"

    loss: Loss = KL()
    """What is minimised."""
    ratings: str = "ratings"
    """The column with what each rater said, as JSON: a list of mappings."""
    said: str = "emotion"
    """The key under which a rater says a category, or several, between which ``;`` divides the vote."""
    words: dict[str, str] = Field(default={})
    """The category that is meant by a word of the raters, where it is another one; empty to leave such votes out."""

    @property
    @override
    def columns(self) -> tuple[str, ...]:
        return (self.target, self.ratings)

    @override
    def learn(self, table: pd.DataFrame, scales: object, place: str) -> Goal:
        goal = VotesGoal(self, self.classes_of(table))
        votes = [goal.votes(str(name), ratings) for name, ratings in table[self.ratings].items()]
        unknown = sorted({word for one in votes for word in one} - {*goal.classes, ""})
        if unknown:
            raise SerError(
                f"{place}: raters voted for {first_of(unknown)}, which is no {self.target}: say what is meant by "
                f"tasks.NAME.words, e.g. {{{unknown[0]}: {goal.classes[0]}}}, empty to leave it out"
            )
        if not any(votes):
            raise SerError(
                f"{place}: no rater voted by {self.said} in {self.ratings}: choose the key by tasks.NAME.said"
            )
        return goal

    @override
    def goal(self, described: Mapping[str, Any]) -> Goal:
        return VotesGoal(self, list(described["classes"]))


class VotesGoal(ClassificationGoal):
    """See `Votes`; targets are (utterances, 1 + classes): the class number, and the shares, NaN without votes."""

    task: Votes

    def votes(self, name: str, ratings: Any) -> dict[str, float]:
        """Return the votes by category, as the ratings of an utterance have them.

        Raises:
            SerError: if they are no ratings.
        """
        found: dict[str, float] = {}
        for word, vote in self._said(name, ratings):
            category = self.task.words.get(word, word)
            found[category] = found.get(category, 0.0) + vote
        return found

    def _said(self, name: str, ratings: Any) -> Iterator[tuple[str, float]]:
        for rating in read_ratings(name, ratings):
            words = words_said(rating.get(self.task.said))
            yield from ((word, 1 / len(words)) for word in words)

    @override
    def targets(self, table: pd.DataFrame) -> torch.Tensor:
        shares = np.stack([self._shares(str(name), row) for name, row in table[self.task.ratings].items()])
        return torch.cat([super().targets(table)[:, None].float(), torch.from_numpy(shares).float()], dim=1)

    def _shares(self, name: str, ratings: Any) -> npt.NDArray[np.float64]:
        votes = self.votes(name, ratings)
        counts = np.array([votes.get(name, 0.0) for name in self.classes])
        return counts / counts.sum() if counts.any() else np.full(len(counts), np.nan)

    @override
    def labels(self, targets: torch.Tensor) -> torch.Tensor:
        return targets if targets.ndim == 1 else targets[:, 0].long()

    @override
    def missing(self, targets: torch.Tensor) -> dict[str, torch.Tensor]:
        return {self.target: targets[:, 1].isnan()}

    @override
    def check(self, folds: list[dict[str, torch.Tensor]]) -> list[str]:
        return super().check([{part: self.labels(values) for part, values in fold.items()} for fold in folds])

    def _of_labelled(self, loss: Any, output: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        there = targets[:, 1].isfinite()
        return loss(output[there], targets[there, 1:]) if bool(there.any()) else output.sum() * 0

    @override
    def measured(self, targets: torch.Tensor, predicted: torch.Tensor, groups: Groups) -> dict[str, Measured]:
        return super().measured(self.labels(targets), predicted, groups)
