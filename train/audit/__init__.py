"""The audit: what leaks from one part of a fold into another, looked for in the table and in what is stored.

Each check is a module with one function. Those in `LEAKS` return findings, which are errors unless ``unsafe`` allows
them by name; those in `REMARKS` return lines on what may be meant.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from featurestore.shared.errors import SerError
from train.audit.file_order import file_order
from train.audit.findings import Audited, Finding
from train.audit.near_duplicates import near_duplicates
from train.audit.same_audio import same_audio
from train.audit.same_transcript import same_transcript
from train.audit.shared_sessions import shared_sessions
from train.audit.shared_speakers import shared_speakers, unknown_speakers
from train.audit.speaker_alone import speaker_alone
from train.examples.protocol import Protocol
from train.reading.corpora import AnyStore
from train.unsafe import UnsafeConfig

LEAKS: tuple[Callable[[Audited], Iterator[Finding]], ...] = (
    shared_speakers,
    shared_sessions,
    same_audio,
    near_duplicates,
)
REMARKS: tuple[Callable[[Audited], Iterator[str]], ...] = (
    unknown_speakers,
    same_transcript,
    speaker_alone,
    file_order,
)
FEW = 3
"""Findings of one name that are printed."""


@dataclass(frozen=True)
class Audit:
    """What was found.

    Attributes:
        leaks: between parts.
        remarks: what may be meant, a line each.
        checks: the names of all that was looked for.
    """

    leaks: list[Finding]
    remarks: list[str]
    checks: list[str]

    def refuse(self, unsafe: UnsafeConfig) -> None:
        """Refuse leaks that ``unsafe`` does not allow.

        Raises:
            SerError: naming the first one, with fold, parts and examples.
        """
        refused = [leak for leak in self.leaks if not unsafe.excuses(leak.name)]
        if refused:
            names = list(dict.fromkeys(leak.name for leak in refused))
            more = f" (and {len(refused) - 1} more like it: ser-train protocol check)" if len(refused) > 1 else ""
            allow = " ".join(f"unsafe.{name}=true" for name in names)
            raise SerError(f"{refused[0]}{more}; choose other splits or mend the table, or allow it with {allow}")

    def lines(self) -> Iterator[str]:
        """Yield a line for each finding, of many with one name the first ones, and for each remark."""
        counts: Counter[str] = Counter()
        for leak in self.leaks:
            counts[leak.name] += 1
            if counts[leak.name] <= FEW:
                yield str(leak)
        for name, count in counts.items():
            if count > FEW:
                yield f"{name}: {count - FEW} more folds and parts"
        yield from (f"remark: {line}" for line in self.remarks)

    def summary(self) -> str:
        """Return in a few words how it went."""
        if not self.leaks:
            return f"nothing leaks ({', '.join(self.checks)})"
        counts = Counter(leak.name for leak in self.leaks)
        return f"{len(self.leaks)} leaks: " + ", ".join(f"{name} {count}" for name, count in counts.items())

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain JSON values, with the lines that are printed."""
        leaks = [leak.to_dict() for leak in self.leaks]
        return {"checks": self.checks, "leaks": leaks, "remarks": self.remarks, "lines": list(self.lines())}


def audit(
    store: AnyStore,
    table: pd.DataFrame,
    protocol: Protocol,
    targets: Sequence[str] | None = None,
    reads_frames: bool = True,
) -> Audit:
    """Return what leaks between the parts of all folds of a protocol, inner ones too.

    Args:
        store: whose frames are compared.
        table: of the utterances, with clean names.
        protocol: whose folds are looked at.
        targets: columns that are predicted; emotion, V, A and D where the table has them when absent.
        reads_frames: whether copies of recordings are looked for, which reads all frames of one feature.
    """
    known = [column for column in ("emotion", "V", "A", "D") if column in table]
    audited = Audited(store, table, protocol, known if targets is None else list(targets))
    checks = [check for check in LEAKS if reads_frames or check is not near_duplicates]
    leaks = [finding for check in checks for finding in check(audited)]
    if not reads_frames:
        audited.remarks.append("no frame is read: copies of recordings are not looked for")
    remarks = [line for check in REMARKS for line in check(audited)]
    return Audit(leaks, remarks + audited.remarks, [check.__name__ for check in checks])
