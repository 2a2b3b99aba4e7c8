"""What is said of each class of a classification: recall and the like, confusion, curves, calibration."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from train.evaluation.tested import Tested
from train.numerics.metrics import BINS, Floats, confidence_bins, plain
from train.tasks.classification import ClassificationGoal

Curve = tuple[Floats, Floats, float]
"""Abscissas, ordinates, and the area."""


@dataclass(frozen=True)
class Recognised:
    """Labelled utterances of the test parts of all folds, and what a system says of their class.

    Attributes:
        target: the column.
        classes: by class number.
        true: class numbers, (utterances,).
        scores: of each class, (utterances, classes).
        probable: whether the scores are probabilities.
    """

    target: str
    classes: list[str]
    true: npt.NDArray[np.int64]
    scores: Floats
    probable: bool

    @cached_property
    def predicted(self) -> npt.NDArray[np.int64]:
        """Class numbers, (utterances,)."""
        return np.asarray(self.scores.argmax(axis=1), np.int64)

    @cached_property
    def confusion(self) -> npt.NDArray[np.int64]:
        """Counts, (classes, classes), true classes in rows."""
        from sklearn.metrics import confusion_matrix

        return np.asarray(confusion_matrix(self.true, self.predicted, labels=np.arange(len(self.classes))), np.int64)

    @cached_property
    def roc(self) -> dict[str, Curve]:
        """The false and true positive rate of each class against the others, and the AUC.

        A class that does not occur, or alone, has none.
        """
        from sklearn.metrics import auc, roc_curve

        found = {}
        for name, of_class, scores in self._each():
            if 0 < of_class.sum() < len(of_class):
                false, true, _ = roc_curve(of_class, scores)
                found[name] = (false, true, float(auc(false, true)))
        return found

    @cached_property
    def precision_recall(self) -> dict[str, Curve]:
        """Recall and precision of each class against the others, and the average precision; of those that occur."""
        from sklearn.metrics import average_precision_score, precision_recall_curve

        found = {}
        for name, of_class, scores in self._each():
            if of_class.any():
                precision, recall, _ = precision_recall_curve(of_class, scores)
                found[name] = (recall, precision, float(average_precision_score(of_class, scores)))
        return found

    @cached_property
    def calibration(self) -> list[dict[str, float]]:
        """The bins of the confidence that hold utterances: ends, utterances, mean confidence, and accuracy."""
        confidence, right = self.scores.max(axis=1), self.predicted == self.true
        bins = confidence_bins(confidence)
        return [
            {
                "low": number / BINS,
                "high": (number + 1) / BINS,
                "utterances": int((bins == number).sum()),
                "confidence": float(confidence[bins == number].mean()),
                "accuracy": float(right[bins == number].mean()),
            }
            for number in np.unique(bins).tolist()
        ]

    def figures(self) -> dict[str, Any]:
        """Return all of it as JSON, see `class_figures`."""
        from sklearn.metrics import precision_recall_fscore_support

        numbers = np.arange(len(self.classes))
        scored = precision_recall_fscore_support(self.true, self.predicted, labels=numbers, zero_division=0)
        words = ("precision", "recall", "F1", "support")
        each = {
            name: {word: values[number].item() for word, values in zip(words, scored, strict=True)}
            | {"AUC": self.roc[name][2] if name in self.roc else None}
            | {"AP": self.precision_recall[name][2] if name in self.precision_recall else None}
            for number, name in enumerate(self.classes)
        }
        found: dict[str, Any] = {"each": each, "macro_AUC": _mean_area(self.roc)}
        found |= {"macro_AP": _mean_area(self.precision_recall), "confusion": self.confusion.tolist()}
        return found | ({"calibration": self.calibration} if self.probable else {})

    def _each(self) -> Iterator[tuple[str, npt.NDArray[np.bool_], Floats]]:
        for number, name in enumerate(self.classes):
            yield name, self.true == number, self.scores[:, number]


def recognised(tested: Tested, system: str) -> Iterator[Recognised]:
    """Yield what a system says of each target with categories."""
    for task, goal in tested.goals.items():
        if isinstance(goal, ClassificationGoal):
            true, scores = goal.labels(tested.targets[task]).numpy(), tested.predicted[system][task].double().numpy()
            there = true >= 0
            yield Recognised(goal.target, goal.classes, true[there], scores[there], system in tested.probable)


def class_figures(tested: Tested) -> dict[str, dict[str, Any]]:
    """Return for each system and each target with categories what is said of its classes, over all folds together.

    Returns:
        ``each`` class: ``precision``, ``recall`` and ``F1`` (0 where they are not defined, zero_division=0 of
        scikit-learn), ``support``, ``AUC`` (one against the others) and ``AP`` (average precision), None where the
        class does not occur; ``macro_AUC`` and ``macro_AP``, their means over the classes that have one;
        ``confusion``, the counts, true classes in rows; and of systems that give probabilities ``calibration``, see
        `Recognised.calibration`. Empty where all targets are numbers.
    """
    found = {system: {one.target: one.figures() for one in recognised(tested, system)} for system in tested.predicted}
    return {system: of for system, of in found.items() if of}


def _mean_area(curves: dict[str, Curve]) -> float | None:
    return plain(float(np.mean([area for _, _, area in curves.values()]))) if curves else None
