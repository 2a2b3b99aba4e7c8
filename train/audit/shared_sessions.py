"""The same session in two parts of a fold that the splits keep apart."""

from __future__ import annotations

from collections.abc import Iterator

from train.audit.findings import Audited, Finding


def shared_sessions(audited: Audited) -> Iterator[Finding]:
    """Yield where parts have values of a column in common, although the protocol keeps them apart."""
    for column, pairs in audited.protocol.apart.items():
        if column not in audited.table:
            audited.remarks.append(f"the store has no {column}: whether parts share them cannot be known")
            continue
        yield from audited.shared("shared_sessions", column, f"values of {column} are in", pairs)
