"""Where the ranks of the chunks lie: of each fold of a run, or of all utterances once."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from urllib.parse import quote

import numpy as np
import numpy.typing as npt

from featurestore.format.plan import Ints
from featurestore.shared.errors import SerError
from train.curves.ranks import read_ranks, without_suffix

PROTOCOL = "protocol.json"


def ranks_file(folder: Path, fold: int, target: str) -> Path:
    """Return the file of the ranks of a target, by the models of a fold."""
    return folder / f"fold_{fold}" / f"{quote(target, safe='')}.json"


def found_file(folder: Path, fold: int, target: str) -> Path:
    """Return the file that is there of the ranks of a target: that of a fold, or else that of all utterances.

    Raises:
        SerError: if there is neither.
    """
    own, common = ranks_file(folder, fold, target), folder / f"{quote(target, safe='')}.json"
    for file in (own, common):
        if file.exists():
            return file
    raise SerError(
        f"ranks={folder}: found neither {own.relative_to(folder)} nor {common.name}: ser-train ranks makes them"
    )


def ranks_of(folder: Path, fold: int, target: str, names: Sequence[str]) -> tuple[Ints, npt.NDArray[np.bool_]]:
    """Return the ranks of some utterances, (utterances, chunks), and which of them have any, (utterances,).

    Raises:
        SerError: if there is no such file, or it knows none of the utterances.
    """
    file = found_file(folder, fold, target)
    found = _read(file, file.stat().st_mtime_ns)
    blank = np.ones_like(next(iter(found.values())))
    known = [found.get(without_suffix(name)) for name in names]
    if all(one is None for one in known):
        raise SerError(f"{file} has ranks of {next(iter(found))} and {len(found) - 1} others, but of no utterance here")
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


@lru_cache(maxsize=16)
def _read(file: Path, written: int) -> dict[str, Ints]:  # noqa: ARG001, a file that is written anew is read anew
    return read_ranks(file)
