"""The metrics within groups of the tested utterances: each speaker, gender, emotion, quarter of the durations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch

from train.evaluation.tested import Tested
from train.numerics.metrics import Floats, Groups, Measured, interval, plain, resample_weights
from train.reading.labels import as_names, speaker_numbers
from train.tasks import Goal

COLUMNS = ("speaker", "gender", "emotion")
RESAMPLES = 2_000
"""Of the speakers of a group."""


def group_figures(tested: Tested) -> dict[str, dict[str, Any]]:
    """Return the metrics within groups, over the test parts of all folds together.

    Returns:
        For ``speaker``, ``gender``, ``emotion`` and ``duration`` (quarters of the utterances, in seconds) where the
        table has the column, for each of its values (empty: not known): ``utterances``, and for each system and target
        ``labelled``, the utterances that count, the metrics, and ``low`` and ``high``, the 95 % interval of that which
        selects, resampling the speakers of the group (None where it has one). CCC, PCC and R2 of one utterance or of
        labels that do not vary are None, PCC also where the predictions do not, and all of a group without a label.
    """
    found = {column: as_names(tested.table[column]) for column in COLUMNS if column in tested.table}
    if "duration" in tested.table:
        found["duration"] = duration_quarters(tested.table["duration"])
    speakers = speaker_numbers(tested.table)
    return {column: _by_value(tested, values, speakers) for column, values in found.items()}


def duration_quarters(seconds: pd.Series) -> pd.Series:
    """Return which quarter of all each duration is in, such as "2: 1.20 to 2.35 s", empty where it is not known.

    Fewer than four where many are the same.
    """
    known = seconds[seconds.notna()].astype(float)
    if not len(known):
        return pd.Series("", seconds.index)
    numbers = np.searchsorted(known.quantile([0.25, 0.5, 0.75]), known)
    ends = known.groupby(numbers).agg(["min", "max"])
    words = [f"{place}: {low:.2f} to {high:.2f} s" for place, (low, high) in enumerate(ends.to_numpy().tolist(), 1)]
    named = dict(zip(ends.index, words, strict=True))
    return pd.Series([named[n] for n in numbers], known.index).reindex(seconds.index, fill_value="")


def _by_value(tested: Tested, values: pd.Series, speakers: Groups) -> dict[str, Any]:
    names, numbers = np.unique(values.to_numpy(str), return_inverse=True)
    groups: Groups = numbers.astype(np.int64)
    counts = np.bincount(groups, minlength=len(names))
    found: dict[str, Any] = {str(name): {"utterances": int(n)} for name, n in zip(names, counts, strict=True)}
    for system, predicted in tested.predicted.items():
        for task, goal in tested.goals.items():
            targets = tested.targets[task]
            labelled = {target: groups[~gone.numpy()] for target, gone in goal.missing(targets).items()}
            each = [groups == number for number in range(len(names))]
            resampled = [_resampled(goal, targets[of], predicted[task][of], speakers[of]) for of in each]
            for target, measured in goal.measured(targets, predicted[task], groups).items():
                figures = _metrics(measured if system in tested.probable else measured.without_probabilities())
                there = np.bincount(labelled[target], minlength=len(names))
                for number, name in enumerate(names):
                    of = {
                        metric: plain(of_all[number]) if there[number] else None for metric, of_all in figures.items()
                    }
                    selects = of[goal.metrics[target]]
                    ends = interval(np.nan if selects is None else selects, resampled[number][target])
                    of |= {"low": ends["low"], "high": ends["high"]}
                    found[str(name)].setdefault(system, {})[target] = {"labelled": int(there[number]), **of}
    return found


def _resampled(goal: Goal, targets: torch.Tensor, predicted: torch.Tensor, speakers: Groups) -> dict[str, Floats]:
    """Return the metric of each target that selects in resamples of the speakers; none where there is one speaker."""
    own = np.unique(speakers, return_inverse=True)[1].astype(np.int64)
    count = int(own.max()) + 1
    weights = resample_weights(count, resamples=RESAMPLES if count > 1 else 0)
    found = goal.figures(targets, predicted, own)
    return {target: of(np.tensordot(weights, sums, axes=1)) for target, (sums, of) in found.items()}


def _metrics(measured: Measured) -> dict[str, Floats]:
    """Return each metric of each group; the CCC is 0 where labels do not vary, which says nothing."""
    found = {metric: of(measured.sums) for metric, of in measured.metrics.items()}
    if "CCC" in found:
        found["CCC"] = np.where(np.isnan(found["R2"]), np.nan, found["CCC"])
    return found
