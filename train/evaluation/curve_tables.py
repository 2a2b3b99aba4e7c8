"""Curves as tables: a row for each chunk of each utterance, with its times in seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch

from train.config import TrainConfig
from train.curves.chunks import chunk_times
from train.curves.ranks import RANK
from train.examples.clock import pooled_hop, pooled_times
from train.examples.examples import Examples
from train.poolings.chunks import Chunks

FILE = "curves.csv"
TIMES = ("start", "time", "end")
DIGITS = 6
"""Of a second, and of a value."""


def chunks_of(examples: Examples, config: TrainConfig) -> Chunks | None:
    """Return the chunks that the models of a run hear, on their clock; None where they hear none."""
    pooled = config.pooling.on_clock(pooled_hop(examples.streams, config))
    return pooled if isinstance(pooled, Chunks) else None


def curves_table(
    examples: Examples, config: TrainConfig, names: Sequence[str], outputs: Mapping[str, torch.Tensor]
) -> pd.DataFrame | None:
    """Return the curves of some utterances, in their order, or None where no task hears chunks.

    Args:
        examples: that hold them.
        config: of the run.
        names: of the utterances.
        outputs: of each task, as `Goal.represent` gives them, the mean over models: (utterances, outputs).

    Returns:
        By ``name`` and ``chunk``, from 0: ``start``, ``time`` (its middle) and ``end`` in seconds, and a column of each
        target: its value in the units of the dataset of a sequence, ``TARGET_rank`` of a ranking.
    """
    chunks = chunks_of(examples, config)
    columns = {key: of for task, goal in examples.goals.items() for key, of in goal.curves(outputs[task]).items()}
    if chunks is None or not columns or not names:
        return None
    assert chunks.frames is not None
    settings = (chunks.frames, chunks.count, chunks.legacy_floor)
    heard = (pooled_times(examples.streams, config, name)[0] for name in names)
    times = np.concatenate([chunk_times(times, *settings) for times in heard])
    index = pd.MultiIndex.from_product([names, range(chunks.count)], names=["name", "chunk"])
    found = {word: times[:, place] for place, word in enumerate(TIMES)}
    return pd.DataFrame(found | {key: np.ravel(of) for key, of in columns.items()}, index).round(DIGITS)


def targets_of(curves: pd.DataFrame) -> list[str]:
    """Return the columns that move over time."""
    return [str(column) for column in curves if column not in TIMES]


def ranked(column: str) -> bool:
    """Return whether it holds ranks, of which the first has most."""
    return column.endswith(RANK)
