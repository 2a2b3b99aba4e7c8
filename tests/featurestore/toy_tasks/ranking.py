"""Pairs in their order."""

from __future__ import annotations

from pydantic import Field

from tests.featurestore.toy_tasks import Task


class Ranking(Task):
    """Of two utterances, which has more."""

    margin: float = Field(default=0.5, ge=0, lt=2)
    """Between the two, in units of the scale."""
    after: Task | None = None
    """What is learned next."""
