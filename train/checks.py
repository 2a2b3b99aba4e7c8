"""What would make the figures of a run meaningless is an error; what may be meant is a remark."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from featurestore.shared.errors import SerError
from train.examples import Examples
from train.labels import some
from train.protocol import PARTS
from train.splits import Fold


def check_folds(examples: Examples, folds: list[Fold]) -> list[str]:
    """Return what is odd about the labels and speakers of the folds, a line each.

    Raises:
        SerError: if a part is empty, or nothing can be learned from a training part or seen in the test parts.
    """
    for number, fold in enumerate(folds):
        for part in PARTS:
            if not getattr(fold, part):
                raise SerError(f"fold {number}: no utterance is in {part}: choose other splits")
    remarks: list[str] = []
    for task, goal in examples.goals.items():
        targets = examples.targets[task]
        parts = [{p: targets[torch.from_numpy(examples.rows(getattr(fold, p)))] for p in PARTS} for fold in folds]
        remarks += goal.check(parts)
    return [*remarks, *_about_speakers(examples, folds), *_in_no_part(examples, folds)]


def _about_speakers(examples: Examples, folds: list[Fold]) -> Iterator[str]:
    if "speaker" not in examples.table:
        return
    speakers = examples.table["speaker"]
    unknown = speakers.index[speakers == ""].tolist()
    if unknown:
        yield f"{some(unknown)} have no speaker: whether parts share theirs cannot be known"
    tested = {speakers.loc[name] for fold in folds for name in fold.test}
    if len(tested) == 1 and tested != {""}:
        yield f"all test utterances are of one speaker, {tested.pop()}: intervals resample speakers, and have no width"


def _in_no_part(examples: Examples, folds: list[Fold]) -> Iterator[str]:
    divided = {name for fold in folds for name in (*fold.train, *fold.dev, *fold.test, *fold.unlabelled)}
    rest = [name for name in examples.names if name not in divided]
    if rest:
        yield f"{some(rest)} are in no part of the splits"
