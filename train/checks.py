"""What would make the figures of a run meaningless is an error; what may be meant is a remark."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from featurestore.errors import SerError
from train.examples import Examples
from train.labels import TOLERANCE, first_of, some
from train.splits import Fold


def check_folds(examples: Examples, folds: list[Fold]) -> list[str]:
    """Return what is odd about the labels and speakers of the folds, a line each.

    Raises:
        SerError: if a part is empty, or nothing can be learned from a training part or seen in the test parts.
    """
    for number, fold in enumerate(folds):
        for part in ("train", "dev", "test"):
            if not getattr(fold, part):
                raise SerError(f"fold {number}: no utterance is in {part}: choose other splits")
    check = _check_categories if examples.classes else _check_dimensions
    return [*check(examples, folds), *_about_speakers(examples, folds), *_in_no_part(examples, folds)]


def shared_speakers(examples: Examples, folds: list[Fold]) -> list[str]:
    """Return a line for each fold and pair of parts that have speakers in common."""
    if "speaker" not in examples.table:
        return ["the store has no speakers: whether parts share them cannot be known"]
    speakers = examples.table["speaker"]
    lines = []
    for number, fold in enumerate(folds):
        parts = {part: set(speakers.loc[getattr(fold, part)]) - {""} for part in ("train", "dev", "test")}
        for a, b in (("train", "test"), ("dev", "test"), ("train", "dev")):
            shared = parts[a] & parts[b]
            if shared:
                lines.append(f"fold {number}: {len(shared)} speakers are in {a} and in {b}, e.g. {sorted(shared)[0]}")
    return lines


def _check_dimensions(examples: Examples, folds: list[Fold]) -> Iterator[str]:
    tested = torch.cat([examples.rows(fold.test) for fold in folds])
    for column, target in enumerate(examples.ranges):
        values = examples.targets[:, column]
        if not _varies(values) or not _varies(values[tested]):
            where = "all test parts" if _varies(values) else "all utterances"
            raise SerError(
                f"label {target} is the same in {where}: there is nothing to predict; leave it out of targets"
            )
        for number, fold in enumerate(folds):
            if not _varies(values[examples.rows(fold.train)]):
                raise SerError(
                    f"fold {number}: label {target} is the same in all of train: nothing can be learned from it"
                )
            if not _varies(values[examples.rows(fold.dev)]):
                yield f"fold {number}: label {target} is the same in all of dev: it has no say in the selection"


def _varies(values: torch.Tensor) -> bool:
    return float(values.max() - values.min()) > TOLERANCE


def _check_categories(examples: Examples, folds: list[Fold]) -> Iterator[str]:
    tested = set(examples.targets[torch.cat([examples.rows(fold.test) for fold in folds])].tolist())
    if len(tested) < 2:
        raise SerError(f"the test parts have one emotion, {examples.classes[tested.pop()]}: expected two or more")
    for number, fold in enumerate(folds):
        train, dev, test = (
            set(examples.targets[examples.rows(part)].tolist()) for part in (fold.train, fold.dev, fold.test)
        )
        if len(train) < 2:
            raise SerError(
                f"fold {number}: train has one emotion, {examples.classes[train.pop()]}: expected two or more"
            )
        if len(dev) < 2:
            yield f"fold {number}: dev has one emotion, {examples.classes[next(iter(dev))]}: it hardly selects"
        unseen = first_of([examples.classes[i] for i in sorted((dev | test) - train)])
        if unseen:
            yield f"fold {number}: train has no utterance of {unseen}, dev or test has: it cannot be recognised"


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
    divided = {name for fold in folds for name in (*fold.train, *fold.dev, *fold.test)}
    rest = [name for name in examples.names if name not in divided]
    if rest:
        yield f"{some(rest)} are in no part of the splits"
