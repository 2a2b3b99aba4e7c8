"""What would make the figures of a run meaningless is an error; what may be meant is a remark."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import torch

from featurestore.shared.errors import SerError
from train.config import TrainConfig
from train.curves.rank_files import PROTOCOL, found_file, ranks_of
from train.examples.examples import Examples
from train.examples.protocol import PARTS, Protocol, read_protocol
from train.reading.labels import some
from train.splits import Fold

FEW_SPEAKERS = 5
"""Of fewer test speakers an interval is remarked on: resampling four holds the truth in some 81 % of studies, not in
95 %, as a t of three degrees of freedom is so often within 1.96 sqrt(3/4)."""


def check_folds(examples: Examples, folds: list[Fold], chosen: Sequence[int] | None) -> list[str]:
    """Return what is odd about the labels and speakers of the folds, a line each.

    Args:
        examples: that are divided.
        folds: all of them.
        chosen: numbers of those that are trained and tested; all when absent.

    Raises:
        SerError: if a part is empty, or nothing can be learned from a training part or seen in the test parts.
    """
    for number, fold in enumerate(folds):
        for part in PARTS:
            if not getattr(fold, part):
                raise SerError(f"fold {number}: no utterance is in {part}: choose other splits")
        for hearing in examples.streams.values():
            hearing.trained_on(fold.train)
    remarks: list[str] = []
    for task, goal in examples.goals.items():
        targets = examples.targets[task]
        parts = [{p: targets[torch.from_numpy(examples.rows(getattr(fold, p)))] for p in PARTS} for fold in folds]
        remarks += goal.check(parts)
    tested = [folds[number] for number in chosen or range(len(folds))]
    return [*remarks, *_about_speakers(examples, tested), *_in_no_part(examples, folds)]


def check_ranks(config: TrainConfig, protocol: Protocol, names: Sequence[str], tasks: dict[str, Any]) -> list[str]:
    """Check before anything is trained that the ranks which tasks rest on fit, and return what is odd, a line each.

    Args:
        config: of the run.
        protocol: its folds.
        names: of the utterances.
        tasks: by name.

    Raises:
        SerError: if they are of another number of chunks, or of rankers that were trained on other folds.
    """
    remarks = []
    folds = range(len(protocol.folds)) if config.folds is None else config.folds
    for task in (task for task in tasks.values() if getattr(task, "ranks", None) is not None):
        count = getattr(config.pooling, "count", None)
        if count is None:
            raise SerError(
                f"ranks={task.ranks} are of chunks: found pooling={config.pooling.name}, take pooling=chunks"
            )
        _check_protocol(task.ranks, protocol)
        for fold, target in product(folds, task.targets):
            ranks, there = ranks_of(task.ranks, fold, target, names)
            if ranks.shape[1] != count:
                raise SerError(
                    f"{found_file(task.ranks, fold, target)} has {ranks.shape[1]} chunks of an utterance, the pooling "
                    f"{count}: give it the same seconds, longest and density"
                )
            if not there.all():
                without = f"{int((~there).sum())} of {len(names)} utterances have no ranks of {target}"
                remarks.append(f"fold {fold}: {without}: their chunks do not count")
    return remarks


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
    elif "" not in tested and len(tested) < FEW_SPEAKERS:
        yield f"the test utterances are of {len(tested)} speakers: intervals, which resample them, are too narrow"


def _in_no_part(examples: Examples, folds: list[Fold]) -> Iterator[str]:
    divided = {name for fold in folds for name in (*fold.train, *fold.dev, *fold.test, *fold.unlabelled)}
    rest = [name for name in examples.names if name not in divided]
    if rest:
        yield f"{some(rest)} are in no part of the splits"


def _check_protocol(folder: Path, protocol: Protocol) -> None:
    """Refuse ranks of a run that has other folds: its rankers may have been trained on what is tested."""
    file = folder / PROTOCOL
    if file.exists() and read_protocol(file).sha256 != protocol.sha256:
        raise SerError(
            f"the ranks in {folder} are of rankers that were trained on other folds, perhaps on utterances that are "
            f"tested here: give protocol={file}"
        )
