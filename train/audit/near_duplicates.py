"""Copies of a recording in two parts of a fold: encoded again, louder, shifted in time, cut at an end.

Two utterances are compared where they have several words (`train.audit.contours`) in common, all at one lag: an index
of all words finds these, in a time that grows with the frames of the store. ``tests/benchmarks/train/leaks.py``
measures what is found, and what is taken for a copy that is none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from featurestore.format.codec import Floats
from train.audit.contours import HOP, Contours, Ints, Numbers, Words, alikeness
from train.audit.findings import Audited, Finding, Pair, is_log_mel
from train.audit.same_audio import same_pairs

LEAST_ALIKE = 0.93
"""Correlation of contours from which on two utterances are one recording."""
LEAST_SECONDS = 0.5
"""That must overlap; below that, and half of the shorter one, nothing is compared."""
LEAST_WORDS = 4
"""That two utterances have in common at one lag, give or take a frame, before they are compared."""
MOST_OF_A_WORD = 64
"""Times that a word is in the store from which on it tells nothing."""
AT_ONCE = 2**22
"""Pairs of equal words that are looked at together."""
SPAN = 2**20
"""More than all lags, in frames."""


def near_duplicates(audited: Audited) -> Iterator[Finding]:
    """Yield where parts have copies of a recording that are not the same to the bit."""
    part = audited.audio
    if part is None:
        audited.remarks.append("no feature tells recordings apart (log-mel, hidden states): copies are not looked for")
        return
    left = len(audited.table) - len(audited.comparable)
    if left:
        audited.remarks.append(f"{left} utterances have no {part.name}: they are not compared with others")
    if not is_log_mel(part.spec.provenance):
        audited.remarks.append(f"copies are looked for in {part.name}, which misses some that logmel would show")
    same = {(pair.first, pair.second) for pair in same_pairs(audited)}
    copies = [pair for pair in find_copies(audited) if (pair.first, pair.second) not in same]
    yield from audited.across("near_duplicates", "pairs of copies of a recording have one in", copies)


def find_copies(audited: Audited) -> Iterator[Pair]:
    """Yield the pairs of utterances that are one recording, and are in different parts of any fold."""
    rows = audited.comparable
    if audited.audio is None or not rows:
        return
    maker = Contours(audited.audio, [audited.table.index[row] for row in rows])
    words = {row: maker.words(maker.contours(audited.table.index[row])) for row in rows}
    kept: dict[int, Floats] = {}
    for pair, lag in suspects(audited, words):
        for row in pair:
            if row not in kept:
                kept[row] = maker.contours(audited.table.index[row])
        first, second = (kept[row] for row in pair)
        least = max(round(LEAST_SECONDS / HOP), min(len(first), len(second)) // 2)
        alike, shift = alikeness(first, second, lag, least)
        if alike >= LEAST_ALIKE:
            yield Pair(*pair, f"alike by {alike:.3f}" + (f", {abs(shift) * HOP:.2f} s shifted" if shift else ""))


def suspects(audited: Audited, words: dict[int, Words]) -> Iterator[tuple[tuple[int, int], int]]:
    """Yield pairs of rows that have words in common at one lag, the lower row first, and the best lag in frames."""
    index = _Index.of(words)
    keys, counts = np.empty(0, np.int64), np.empty(0, np.int64)
    gathered: list[Ints] = []
    for some in index.pairs(len(audited.table)):
        first, second = some // SPAN // len(audited.table), some // SPAN % len(audited.table)
        gathered.append(some[audited.crossing(first, second)])
        if sum(map(len, gathered)) > AT_ONCE:
            keys, counts = _counted(keys, counts, gathered)
            gathered = []
    keys, counts = _counted(keys, counts, gathered)
    votes = counts.copy()  # a lag between two frames is counted at both
    beside = np.flatnonzero(keys[1:] == keys[:-1] + 1)
    votes[beside] += counts[beside + 1]
    votes[beside + 1] += counts[beside]
    enough = np.flatnonzero(votes >= LEAST_WORDS)
    order = enough[np.lexsort((-votes[enough], keys[enough] // SPAN))]
    pairs, first = np.unique(keys[order] // SPAN, return_index=True)
    for pair, key in zip(pairs.tolist(), keys[order[first]].tolist(), strict=True):
        yield divmod(pair, len(audited.table)), key % SPAN - SPAN // 2


def _counted(keys: Ints, counts: Ints, more: list[Ints]) -> tuple[Ints, Ints]:
    """Return how often each key has been met, with those in ``more``."""
    new, often = np.unique(np.concatenate([*more, keys[:0]]), return_counts=True)
    together, places = np.unique(np.concatenate([keys, new]), return_inverse=True)
    return together, np.bincount(places, np.concatenate([counts, often]), len(together)).astype(np.int64)


@dataclass(frozen=True)
class _Index:
    """All words in their order, without those that tell nothing, with the row and frame of each."""

    words: Numbers
    rows: Numbers
    frames: Numbers

    @classmethod
    def of(cls, words: dict[int, Words]) -> _Index:
        rows = np.repeat(np.fromiter(words, np.int32), [len(one.words) for one in words.values()])
        every = np.concatenate([one.words for one in words.values()])
        order = np.argsort(every, kind="stable")
        every = every[order]
        ends = np.flatnonzero(np.diff(every, append=-1))  # of the places of each word
        often = np.diff(ends, prepend=-1)
        telling = np.repeat(often <= MOST_OF_A_WORD, often)
        order = order[telling]
        frames = np.concatenate([one.frames for one in words.values()])
        return cls(every[telling], rows[order], frames[order])

    def pairs(self, count: int) -> Iterator[Ints]:
        """Yield for two places of a word in different rows: (lower row * ``count`` + other) * `SPAN` + lag."""
        for step in range(1, MOST_OF_A_WORD):
            met = np.flatnonzero(self.words[step:] == self.words[:-step])
            if not len(met):
                return
            for first in range(0, len(met), AT_ONCE):
                a = met[first : first + AT_ONCE]
                b = a + step
                a, b = (np.where(self.rows[a] < self.rows[b], one, other) for one, other in ((a, b), (b, a)))
                pairs = self.rows[a].astype(np.int64) * count + self.rows[b]
                keys = pairs * SPAN + (self.frames[b] - self.frames[a] + SPAN // 2)
                yield keys[self.rows[a] != self.rows[b]]
