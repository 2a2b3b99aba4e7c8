"""How well runs put utterances in order: rankers, and beside them what predicts numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from featurestore.shared.errors import SerError
from train.comparison.outcomes import OF_NUMBERS, Outcome, check_same_labels
from train.curves.ordering import kendall_of, order_sums, pairwise_accuracy_of, spearman_of
from train.curves.preferences import agreement, ratings_of
from train.numerics.metrics import Floats, Groups, interval, resample_weights
from train.reading.labels import speaker_numbers

METRICS = {"pairwise_accuracy": pairwise_accuracy_of, "Spearman": spearman_of, "Kendall": kendall_of}
COLUMNS = ("target", "metric", "run", "value", "low", "high", "less_first", "less_first_low", "less_first_high")


class _Ordered(NamedTuple):
    """A metric of a run, and in resamples of the speakers."""

    value: float
    resampled: Floats


def order_table(paths: Sequence[Path], threshold: float) -> pd.DataFrame:
    """Return how well runs put the utterances of their test parts in order, those of all folds together.

    Args:
        paths: of runs on one store with the same folds, that rank or predict numbers.
        threshold: share of the pairs of raters that must say the same of two utterances.

    Returns:
        A row for each ``target``, ``metric`` and ``run``: ``value`` with its 95 % interval over speakers, ``low`` and
        ``high``, and by how much it is better than the first run, ``less_first``, with that of the difference. The
        metrics are the share of the pairs on which raters agree that are ordered so, and Spearman and Kendall with the
        consensus.

    Raises:
        SerError: if the runs have other test parts or labels than the first, or no such target in common, or raters
            rated nothing.
    """
    outcomes = [Outcome(path) for path in paths]
    first = outcomes[0]
    targets = [name for name in first.metrics if all(one.metrics.get(name) in OF_NUMBERS for one in outcomes)]
    if not targets:
        found = "; ".join(f"{one.path} {', '.join(one.metrics)}" for one in outcomes)
        raise SerError(f"the runs have no target in common that is ranked or a number: {found}")
    for other in outcomes[1:]:
        check_same_labels(first, other, targets)
    names = first.table.index.get_level_values("name")
    rated = first.folder.open_store().utterances.loc[names]
    groups = speaker_numbers(first.table.reset_index("fold"))
    rows = [
        (target, metric, str(path), *figures)
        for target in targets
        for metric, of in _ordered(outcomes, target, ratings_of(rated, target), groups, threshold)
        for path, figures in zip(paths, _figures(of), strict=True)
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _ordered(
    outcomes: list[Outcome], target: str, ratings: Floats, groups: Groups, threshold: float
) -> Iterator[tuple[str, list[_Ordered]]]:
    """Yield each metric of all runs."""
    true = outcomes[0].table[target].to_numpy(float)
    there = np.isfinite(true) & np.isfinite(ratings).any(axis=1)
    said, count = torch.from_numpy(ratings[there]), int(groups.max()) + 1
    labels = agreement(said, said, threshold).numpy()
    sums = [order_sums(true[there], one.predicted(target)[there], labels, groups[there], count) for one in outcomes]
    weights = resample_weights(count)
    for metric, compute in METRICS.items():
        yield (
            metric,
            [_Ordered(float(compute(one.sum(axis=0))), compute(np.tensordot(weights, one, axes=1))) for one in sums],
        )


def _figures(found: list[_Ordered]) -> Iterator[tuple[float, ...]]:
    first = found[0]
    for one in found:
        alone, beside = interval(*one), interval(one.value - first.value, one.resampled - first.resampled)
        figures = [of[key] for of in (alone, beside) for key in ("value", "low", "high")]
        yield tuple(np.nan if figure is None else figure for figure in figures)
