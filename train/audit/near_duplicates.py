"""Copies of a recording in two parts of a fold: encoded again, louder, shifted in time, cut at an end.

Two utterances are compared where they have several words (`train.audit.contours`) in common, all at one lag: an index
of all words finds these, in a time that grows with the frames of the store. ``tests/benchmarks/training/leaks.py``
measures what is found, and what is taken for a copy that is none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

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
MOST_SUSPECTS = 8
"""Pairs that are compared for each utterance of the store, at most: different recordings have .7 in a store of 800."""
AT_ONCE = 2**23
"""Pairs of equal words that are looked at together, about."""
MOST_KEPT = 1024
"""Contours that are kept, of those that have been compared."""
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
        audited.remarks.append(f"copies are looked for in {part.name}, which misses some; logmel would show them")
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

    @lru_cache(maxsize=MOST_KEPT)
    def contours(row: int) -> Floats:
        return maker.contours(audited.table.index[row])

    for pair, lag in suspects(audited, words):
        first, second = map(contours, pair)
        least = max(round(LEAST_SECONDS / HOP), min(len(first), len(second)) // 2)
        alike, shift = alikeness(first, second, lag, least)
        if alike >= LEAST_ALIKE:
            yield Pair(*pair, f"alike by {alike:.3f}" + (f", {abs(shift) * HOP:.2f} s shifted" if shift else ""))


def suspects(audited: Audited, words: dict[int, Words]) -> Iterator[tuple[tuple[int, int], int]]:
    """Yield pairs of rows that have words in common at one lag, the lower row first, and the best lag in frames.

    Pairs that have some by chance grow with the square of the store, so beyond `MOST_SUSPECTS` those with the fewest
    are left out, which a remark says.
    """
    index, count = _Index.of(words), len(audited.table)
    suspected, votes_of = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    ends = np.linspace(0, count, index.count_pairs() // AT_ONCE + 2).astype(int)
    for begin, end in pairwise(ends.tolist()):
        found = [keys[audited.crossing(*_rows(keys, count))] for keys in index.pairs(count, begin, end)]
        keys, votes = np.unique(np.concatenate([np.empty(0, np.int64), *found]), return_counts=True)
        beside = np.flatnonzero(keys[1:] == keys[:-1] + 1)  # a lag between two frames is counted at both
        counts = votes.copy()
        votes[beside] += counts[beside + 1]
        votes[beside + 1] += counts[beside]
        enough = np.flatnonzero(votes >= LEAST_WORDS)
        order = enough[np.lexsort((-votes[enough], keys[enough] // SPAN))]
        _, best = np.unique(keys[order] // SPAN, return_index=True)
        suspected.append(keys[order[best]])
        votes_of.append(votes[order[best]])
    keys, most = np.concatenate(suspected), MOST_SUSPECTS * len(words)
    chosen = np.argsort(-np.concatenate(votes_of), kind="stable")[:most]
    if len(keys) > most:
        what = f"{len(keys) - most} of {len(keys)} pairs of utterances that have least in common"
        audited.remarks.append(f"{what} were not compared, which would take too long")
    for key in np.sort(keys[chosen]).tolist():
        yield divmod(key // SPAN, count), key % SPAN - SPAN // 2


def _rows(keys: Ints, count: int) -> tuple[Ints, Ints]:
    """Return the two rows of each key."""
    return keys // SPAN // count, keys // SPAN % count


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

    def count_pairs(self) -> int:
        """Return how many pairs of places have the same word."""
        often = np.unique(self.words, return_counts=True)[1]
        return int((often * (often - 1) // 2).sum())

    def pairs(self, count: int, begin: int, end: int) -> Iterator[Ints]:
        """Yield for two places of a word in different rows: (lower row * ``count`` + other) * `SPAN` + lag.

        The lower row is at least ``begin`` and below ``end``.
        """
        for step in range(1, MOST_OF_A_WORD):
            met = np.flatnonzero(self.words[step:] == self.words[:-step])
            if not len(met):
                return
            for part in np.array_split(met, len(met) // AT_ONCE + 1):
                rows, others = self.rows[part], self.rows[part + step]
                lower = np.minimum(rows, others)
                a = part[(rows != others) & (lower >= begin) & (lower < end)]
                b = a + step
                a, b = (np.where(self.rows[a] < self.rows[b], one, other) for one, other in ((a, b), (b, a)))
                pairs = self.rows[a].astype(np.int64) * count + self.rows[b]
                yield pairs * SPAN + (self.frames[b] - self.frames[a] + SPAN // 2)
