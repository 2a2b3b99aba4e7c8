"""The same words in train and test: a remark, since datasets with few sentences are made so."""

from __future__ import annotations

from collections.abc import Iterator

from train.audit.findings import Audited
from train.reading.labels import as_names

COLUMNS = ("transcript", "transcription", "sentence")


def same_transcript(audited: Audited) -> Iterator[str]:
    """Yield a line if utterances of test parts say what utterances of the training parts say."""
    column = next((column for column in COLUMNS if column in audited.table), None)
    if column is None:
        return
    words = as_names(audited.table[column]).str.casefold().str.split().str.join(" ")
    tested = shared = 0
    for fold in audited.protocol.folds:
        trained = set(words.loc[fold.train]) - {""}
        tested += len(fold.test)
        shared += int(words.loc[fold.test].isin(trained).sum())
    if shared:
        yield f"{shared} of {tested} test utterances have the {column} of a training utterance: words may be learned"
