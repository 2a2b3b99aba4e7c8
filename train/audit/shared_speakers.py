"""The same voice in two parts of a fold."""

from __future__ import annotations

from collections.abc import Iterator

from train.audit.findings import Audited, Finding


def shared_speakers(audited: Audited) -> Iterator[Finding]:
    """Yield where parts have speakers in common."""
    if "speaker" in audited.table:
        yield from audited.shared("shared_speakers", "speaker", "speakers are in")


def unknown_speakers(audited: Audited) -> Iterator[str]:
    """Yield a line if no speaker is known."""
    if "speaker" not in audited.table:
        yield "the store has no speakers: whether parts share them cannot be known"
