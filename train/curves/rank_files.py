"""Where the ranks of the chunks lie: of each fold of a run, or of all utterances once."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np
import numpy.typing as npt

from featurestore.format.plan import Ints
from featurestore.shared.errors import SerError
from train.curves.ranks import read_ranks, without_suffix

if TYPE_CHECKING:
    from train.config import TrainConfig
    from train.protocol import Protocol

PROTOCOL = "protocol.json"


def ranks_file(folder: Path, fold: int, target: str) -> Path:
    """Return the file of the ranks of a target, by the models of a fold."""
    return folder / f"fold_{fold}" / f"{quote(target, safe='')}.json"


def ranks_of(folder: Path, fold: int, target: str, names: Sequence[str]) -> tuple[Ints, npt.NDArray[np.bool_]]:
    """Return the ranks of some utterances, (utterances, chunks), and which of them have any, (utterances,).

    Raises:
        SerError: if there is no such file.
    """
    file = _there(folder, fold, target)
    found = _read(file, file.stat().st_mtime_ns)
    blank = np.ones_like(next(iter(found.values())))
    known = [found.get(without_suffix(name)) for name in names]
    ranks = np.stack([blank if one is None else one for one in known])
    return ranks, np.array([one is not None for one in known])


def ranks_sha256(folder: Path, targets: Sequence[str]) -> str:
    """Return a hash of the ranks of some targets, in all folds.

    Raises:
        SerError: if there are none.
    """
    names = {f"{quote(target, safe='')}.json" for target in targets}
    files = sorted(file for file in folder.glob("**/*.json") if file.name in names)
    if {file.name for file in files} != names:
        raise SerError(
            f"ranks={folder}: expected {', '.join(sorted(names))} in it or below it: ser-train ranks makes them"
        )
    digest = hashlib.sha256()
    for file in files:
        digest.update(str(file.relative_to(folder)).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def _there(folder: Path, fold: int, target: str) -> Path:
    own, common = ranks_file(folder, fold, target), folder / f"{quote(target, safe='')}.json"
    for file in (own, common):
        if file.exists():
            return file
    raise SerError(
        f"ranks={folder}: found neither {own.relative_to(folder)} nor {common.name}: ser-train ranks makes them"
    )


@lru_cache(maxsize=16)
def _read(file: Path, written: int) -> dict[str, Ints]:  # noqa: ARG001, a file that is written anew is read anew
    return read_ranks(file)


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
                    f"{_there(task.ranks, fold, target)} has {ranks.shape[1]} chunks of an utterance, the pooling "
                    f"{count}: give it the same seconds, longest and density"
                )
            if not there.all():
                without = f"{int((~there).sum())} of {len(names)} utterances have no ranks of {target}"
                remarks.append(f"fold {fold}: {without}: their chunks do not count")
    return remarks


def _check_protocol(folder: Path, protocol: Protocol) -> None:
    """Refuse ranks of a run that has other folds: its rankers may have been trained on what is tested."""
    from train.protocol import read_protocol

    file = folder / PROTOCOL
    if file.exists() and read_protocol(file).sha256 != protocol.sha256:
        raise SerError(
            f"the ranks in {folder} are of rankers that were trained on other folds, perhaps on utterances that are "
            f"tested here: give protocol={file}"
        )
