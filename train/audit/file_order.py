"""Labels that the order of names gives away: the one before has the same."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from train.audit.agreement import agreement, remarkable
from train.audit.findings import Audited


def file_order(audited: Audited) -> Iterator[str]:
    """Yield a line for each target that the utterance before, in the order of names, predicts on the test parts."""
    for target in audited.targets:
        true, guessed = [], []
        for fold in audited.protocol.folds:
            labels = audited.table[target].loc[sorted(fold.test)]
            true.append(labels.iloc[1:])
            guessed.append(labels.shift().iloc[1:])
        value = agreement(pd.concat(true), pd.concat(guessed))
        count = sum(map(len, true))
        if remarkable(value, count):
            yield f"the order of names gives {target} away: neighbours agree by {value:.2f} (chance 0)"
