"""Labels that the speaker alone gives away, where the same ones are in train and test."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from train.audit.agreement import agreement, remarkable
from train.audit.findings import Audited


def speaker_alone(audited: Audited) -> Iterator[str]:
    """Yield a line for each target that the training labels of the speaker predict on the test parts."""
    if "speaker" not in audited.table:
        return
    for target in audited.targets:
        guesses = [_guess(audited.table, target, fold.train, fold.test) for fold in audited.protocol.folds]
        guessed = pd.concat(guesses).dropna()
        value = agreement(audited.table[target].loc[guessed.index], guessed)
        if remarkable(value, len(guessed)):
            tested = f"{len(guessed)} test utterances"
            yield f"the speaker alone predicts {target} of {tested}: agreement {value:.2f} (chance 0)"


def _guess(table: pd.DataFrame, target: str, train: list[str], test: list[str]) -> pd.Series:
    """Return the mean, or the most frequent label, of each test utterance's speaker in the training part."""
    trained = table.loc[train]
    trained = trained[trained["speaker"] != ""]
    by_speaker = trained.groupby("speaker")[target]
    if pd.api.types.is_numeric_dtype(table[target]):
        known = by_speaker.mean()
    else:
        known = by_speaker.agg(lambda labels: labels.mode().iloc[0] if len(labels.mode()) else None)
    return table["speaker"].loc[test].map(known)
