"""Categories, such as emotions, of any column that names them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar

import pandas as pd
import torch
from pydantic import field_validator
from typing_extensions import override

from featurestore.shared.errors import SerError
from train.losses import Kind, Loss, LossOf
from train.losses.cross_entropy import CrossEntropy
from train.numerics.metrics import (
    Floats,
    Groups,
    Measured,
    accuracy_of,
    class_sums,
    ece_of,
    macro_f1_of,
    overconfidence_of,
    uar_of,
    weighted_f1_of,
)
from train.reading.labels import as_names, first_of
from train.tasks import Goal, Task

METRICS: dict[str, Callable[[Floats], Floats]] = {
    "UAR": uar_of,
    "accuracy": accuracy_of,
    "macro_F1": macro_f1_of,
    "weighted_F1": weighted_f1_of,
    "ECE": ece_of,
    "overconfidence": overconfidence_of,
}


class Classification(Task):
    """The categories of one column."""

    kind_of_loss: ClassVar[Kind] = "classification"

    target: str = "emotion"
    """The column."""
    loss: Loss = CrossEntropy()
    """What is minimised."""

    @property
    @override
    def columns(self) -> tuple[str, ...]:
        return (self.target,)

    @field_validator("loss")
    @classmethod
    def _fits(cls, loss: Loss) -> Loss:
        if loss.task != cls.kind_of_loss:
            raise ValueError(f"{loss.name} is a loss of {loss.task}, expected one of {cls.kind_of_loss}")
        return loss

    @override
    def learn(self, table: pd.DataFrame, scales: object, place: str) -> Goal:
        return ClassificationGoal(self, self.classes_of(table))

    def classes_of(self, table: pd.DataFrame) -> list[str]:
        """Return the categories that there are, in the order of their numbers.

        Raises:
            SerError: if they are no categories, fewer than two, or not those of the loss.
        """
        _check_names(table[self.target])
        classes = sorted(set(as_names(table[self.target])) - {""})
        if len(classes) < 2:
            found = f"one {self.target}, {classes[0]}" if classes else f"no {self.target}"
            raise SerError(f"all utterances have {found}: expected two or more")
        self.loss.check(classes)
        return classes

    @override
    def goal(self, described: Mapping[str, Any]) -> Goal:
        return ClassificationGoal(self, list(described["classes"]))


def _check_names(column: pd.Series) -> None:
    """Refuse numbers that are not whole: each utterance would be a category of its own."""
    if pd.api.types.is_float_dtype(column):
        broken = column[column.notna() & (column % 1 != 0)]
        if len(broken):
            raise SerError(
                f"label {column.name} holds numbers, e.g. {broken.iloc[0]:g}: they are no categories; regress them: "
                f"tasks.NAME={{name: regression, targets: [{column.name}], ranges: {{{column.name}: [LOW, HIGH]}}}}"
            )


class ClassificationGoal(Goal):
    """See `Classification`.

    Args:
        task: its settings.
        classes: the categories by class number.
    """

    task: Classification

    def __init__(self, task: Classification, classes: list[str]) -> None:
        self.task, self.classes, self.target = task, classes, task.target
        self.outputs, self.metrics = len(classes), {self.target: "UAR"}

    @override
    def truth(self, table: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame({self.target: as_names(table[self.target])})

    @override
    def targets(self, table: pd.DataFrame) -> torch.Tensor:
        return torch.from_numpy(pd.Index(self.classes).get_indexer(pd.Index(as_names(table[self.target]))))

    @override
    def missing(self, targets: torch.Tensor) -> dict[str, torch.Tensor]:
        return {self.target: targets < 0}

    @override
    def check(self, folds: list[dict[str, torch.Tensor]]) -> list[str]:
        present = [{part: set(values[values >= 0].tolist()) for part, values in fold.items()} for fold in folds]
        tested = set().union(*(fold["test"] for fold in present))
        if len(tested) < 2:
            raise SerError(f"the test parts have {self._only(tested)}: expected two or more")
        remarks = []
        for number, fold in enumerate(present):
            if len(fold["train"]) < 2:
                raise SerError(f"fold {number}: train has {self._only(fold['train'])}: expected two or more")
            if len(fold["dev"]) < 2:
                remarks.append(f"fold {number}: dev has {self._only(fold['dev'])}: it hardly selects")
            unseen = first_of([self.classes[i] for i in sorted((fold["dev"] | fold["test"]) - fold["train"])])
            if unseen:
                remarks.append(
                    f"fold {number}: train has no utterance of {unseen}, dev or test has: it cannot be recognised"
                )
        return remarks

    def _only(self, classes: set[int]) -> str:
        found = [self.classes[i] for i in classes]
        return f"one {self.target}, {found[0]}" if found else f"no {self.target}"

    @override
    def loss(self, output: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return self._of_labelled(self.task.loss, output, targets)

    @override
    def fitted(self, targets: torch.Tensor) -> LossOf:
        labels = self.labels(targets)
        counts = torch.bincount(labels[labels >= 0], minlength=self.outputs)
        return partial(self._of_labelled, self.task.loss.of_classes(self.classes, counts))

    def _of_labelled(self, loss: LossOf, output: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        there = targets >= 0
        return loss(output[there], targets[there]) if bool(there.any()) else output.sum() * 0

    @override
    def represent(self, output: torch.Tensor) -> torch.Tensor:
        return output.double().softmax(dim=-1)

    @override
    def measured(self, targets: torch.Tensor, predicted: torch.Tensor, groups: Groups) -> dict[str, Measured]:
        there = (targets >= 0).numpy()
        true, probabilities = targets.numpy()[there], predicted.double().numpy()[there]
        sums = class_sums(true, probabilities, groups[there], int(groups.max()) + 1)
        return {self.target: Measured(sums, METRICS)}

    @override
    def decode(self, predicted: torch.Tensor) -> dict[str, Any]:
        return {self.target: [self.classes[i] for i in predicted.argmax(dim=-1).tolist()]}

    @override
    def scores(self, predicted: torch.Tensor) -> dict[tuple[str, str], Any]:
        columns = predicted.double().numpy().T
        return {(self.target, name): column for name, column in zip(self.classes, columns, strict=True)}

    @override
    def spread(self, members: torch.Tensor) -> dict[str, Any]:
        chosen = members.mean(dim=0).argmax(dim=-1)
        agreeing = (members.argmax(dim=-1) == chosen).double().mean(dim=0)
        return {f"{self.target}_agreement": agreeing.numpy()}

    @override
    def described(self) -> dict[str, Any]:
        return {"classes": self.classes}
