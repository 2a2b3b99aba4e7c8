"""The same audio under two names, in two parts of a fold."""

from __future__ import annotations

import re
from collections.abc import Iterator

from train.audit.findings import Audited, Finding, Pair
from train.reading.labels import as_names

FLAG = re.compile(r"the same audio as ([^;]+)")
"""What extraction says of a file that has the bytes of another one."""


def same_audio(audited: Audited) -> Iterator[Finding]:
    """Yield where parts have the same file, or the same stored frames, under two names."""
    yield from audited.across("same_audio", "recordings are under two names in", same_pairs(audited))


def same_pairs(audited: Audited) -> list[Pair]:
    """Return the utterances whose file or stored frames are those of another one."""
    found = {(pair.first, pair.second): pair for pair in (*_stored(audited), *_flagged(audited))}
    return list(found.values())


def _flagged(audited: Audited) -> Iterator[Pair]:
    """Yield what extraction has flagged."""
    if "flags" not in audited.table:
        return
    rows: dict[str, int] = {str(name): row for row, name in enumerate(audited.table.index)}
    for row, flags in enumerate(as_names(audited.table["flags"])):
        original = FLAG.search(flags)
        if original and original[1] in rows:
            other = rows[original[1]]
            yield Pair(min(row, other), max(row, other))


def _stored(audited: Audited) -> Iterator[Pair]:
    """Yield what has the checksum, length and mean of another one; frames that are all alike say nothing."""
    part = audited.audio
    if part is None:
        return
    groups: dict[tuple[int, str], list[int]] = {}
    for row in audited.comparable:
        name = audited.table.index[row]
        groups.setdefault((part.frames(name), part.checksum(name)), []).append(row)
    for rows in (rows for rows in groups.values() if len(rows) > 1):
        mean, sd = part.pooled([audited.table.index[row] for row in rows])
        for place, row in enumerate(rows):
            for other in range(place):
                if sd[place].any() and (mean[place] == mean[other]).all():
                    yield Pair(rows[other], row)
