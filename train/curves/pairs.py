"""Pairs of a file that train a ranker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from train.curves.preferences import FIRST, LABEL, SECOND, read_pairs
from train.curves.ranks import without_suffix
from train.numerics.metrics import Floats


@dataclass(frozen=True)
class Pairs:
    """Pairs of utterances, by their numbers in the file.

    Attributes:
        names: of the utterances, without suffixes of audio files, sorted; the number of one is its place.
        keys: of each pair, more and less: more x utterances + less, sorted.
    """

    names: pd.Index
    keys: torch.Tensor

    @classmethod
    def read(cls, file: Path) -> Pairs:
        """Return the pairs of a file.

        Raises:
            SerError: if it is none.
        """
        table = read_pairs(file)
        first, second = (table[column].map(without_suffix) for column in (FIRST, SECOND))
        names = pd.Index(sorted({*first, *second}))
        one, other, label = names.get_indexer(first), names.get_indexer(second), table[LABEL].to_numpy() == 1
        keys = np.unique(np.where(label, one, other).astype(np.int64) * len(names) + np.where(label, other, one))
        return cls(names, torch.from_numpy(keys))

    def numbers(self, names: Sequence[str]) -> Floats:
        """Return the number of each utterance, below 0 of one that is in no pair."""
        return self.names.get_indexer(pd.Index([without_suffix(name) for name in names])).astype(np.float64)

    def any_between(self, numbers: torch.Tensor) -> bool:
        """Return whether a pair is of two utterances of these numbers."""
        there = torch.zeros(len(self.names) + 1, dtype=torch.bool)  # the last one is of those that are in no pair
        there[numbers.long().clamp(min=-1)] = True
        there[-1] = False
        more, less = self.keys // max(1, len(self.names)), self.keys % max(1, len(self.names))
        return bool((there[more] & there[less] & (more != less)).any())

    def labels(self, numbers: torch.Tensor) -> torch.Tensor:
        """Return 1 where a pair says that there is more in the first, -1 in the second, else 0, (batch, batch)."""
        found, keys = numbers.long(), self.keys.to(numbers.device)
        if not len(keys):
            return torch.zeros(len(found), len(found), dtype=torch.int8, device=found.device)
        asked = found[:, None] * len(self.names) + found
        place = torch.searchsorted(keys, asked).clamp(max=len(keys) - 1)
        more = (keys[place] == asked) & (found[:, None] >= 0) & (found >= 0)
        return more.to(torch.int8) - more.T.to(torch.int8)
