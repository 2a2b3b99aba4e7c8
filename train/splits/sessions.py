"""Leave one session out, as with the five sessions of IEMOCAP."""

from __future__ import annotations

from typing import Literal

import pandas as pd
from typing_extensions import override

from featurestore.shared.errors import SerError
from train.splits import PAIRS, Apart, Fold, Splits, group_column, rolling_folds


class Sessions(Splits):
    """Each session is held out once, in the order of names."""

    column: str = "session"
    """The column of sessions."""
    dev: Literal["next", "speaker"] = "next"
    """``next``: a session is the test part, the one after it (cyclic) is dev, a fold a session. ``speaker``: of the
    session that is held out each speaker is the test part once, the others of it are dev, a fold a speaker."""

    @property
    @override
    def apart(self) -> Apart:
        return {self.column: [pair for pair in PAIRS if self.dev == "next" or pair != "dev/test"]}

    @override
    def folds(self, table: pd.DataFrame) -> list[Fold]:
        sessions = group_column(table, self.column)
        names = sorted(sessions.unique())
        least = 3 if self.dev == "next" else 2
        if len(names) < least:
            raise SerError(f"splits=sessions with dev={self.dev} needs {least} sessions or more, found {len(names)}")
        if self.dev == "next":
            return rolling_folds(sessions, [[session] for session in names], dev_parts=1)
        speakers = group_column(table, "speaker")
        return [fold for session in names for fold in self._within(session, sessions, speakers)]

    def _within(self, session: str, sessions: pd.Series, speakers: pd.Series) -> list[Fold]:
        """Return a fold for each speaker of a session."""
        held_out = sessions == session
        present = sorted(speakers[held_out].unique())
        if len(present) < 2:
            raise SerError(f"session {session} has one speaker, {present[0]}: splits.dev=speaker needs two or more")
        parts = [(~held_out, held_out & (speakers != speaker), held_out & (speakers == speaker)) for speaker in present]
        return [Fold(*(sessions.index[chosen].tolist() for chosen in masks)) for masks in parts]
