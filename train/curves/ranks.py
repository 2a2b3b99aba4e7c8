"""The order of the chunks of an utterance, and files of it in the published form."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from featurestore.format.plan import Ints
from featurestore.shared.errors import SerError
from train.numerics.metrics import Floats

KEY = "ChunkRankSeq"
"""Of a file: ``{"NAME.wav": {"ChunkRankSeq": [3, 1, …]}, …}``."""
RANK = "_rank"
"""What follows the name of a target in that of a column of its ranks."""
SUFFIXES = (".wav", ".flac", ".mp3", ".ogg", ".mat", ".npy")


def without_suffix(name: str) -> str:
    """Return the name of an utterance without the suffix that published files give it.

    >>> without_suffix("MSP-PODCAST_0001_0008.wav"), without_suffix("a.b")
    ('MSP-PODCAST_0001_0008', 'a.b')
    """
    return next((name.removesuffix(suffix) for suffix in SUFFIXES if name.endswith(suffix)), name)


def rank_sequence(scores: npt.ArrayLike) -> Ints:
    """Return the rank of each chunk, 1 where there is most: one more than the chunks that win against more others.

    Every two chunks are compared, and a chunk wins where its score is higher; chunks that win equally often have the
    same rank, the least of theirs.

    Args:
        scores: (..., chunks).

    >>> rank_sequence([0.1, 0.9, 0.9, 0.3, -2.0, 0.0]).tolist()
    [4, 1, 1, 3, 6, 5]
    """
    found = np.asarray(scores, np.float64)
    return 1 + (found[..., None, :] > found[..., :, None]).sum(axis=-1).astype(np.int64)


def rank_columns(scores: Floats, targets: Sequence[str]) -> dict[str, Any]:
    """Return the ranks of scores (utterances, chunks, targets), (utterances, chunks), as columns ``TARGET_rank``."""
    return {f"{target}{RANK}": rank_sequence(scores[..., column]) for column, target in enumerate(targets)}


def as_json(ranks: Mapping[str, Sequence[int]]) -> str:
    """Return the ranks of utterances by name in the published form."""
    return json.dumps({name: {KEY: list(map(int, found))} for name, found in ranks.items()}, ensure_ascii=False)


def read_ranks(file: Path) -> dict[str, Ints]:
    """Return the ranks of the utterances of a file by name, without suffixes.

    Raises:
        SerError: if it is not of that form, or the utterances have different numbers of chunks.
    """
    try:
        content = json.loads(file.read_bytes())
        found = {without_suffix(name): _whole(said[KEY]) for name, said in content.items()}
    except OSError as error:
        raise SerError(f"ranks {file} cannot be read: {error.strerror}; make them by ser-train ranks") from None
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise SerError(f'{file} is not of the form {{"NAME": {{"{KEY}": [3, 1, …]}}}}: {error!r}') from None
    shapes = {found.shape for found in found.values()}
    if len(shapes) != 1 or len(next(iter(shapes))) != 1:
        raise SerError(f"{file}: expected as many ranks of every utterance, found shapes {sorted(shapes)[:3]}")
    return found


def _whole(said: object) -> Ints:
    ranks = np.array(said, np.float64)
    if not (ranks >= 1).all() or (ranks % 1).any():
        raise ValueError(f"expected whole ranks from 1, found {str(said)[:80]}")
    return ranks.astype(np.int64)
