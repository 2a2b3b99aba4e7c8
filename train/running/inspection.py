"""What is looked at before a run is trained: features that are damaged, and leaks; once for all runs that share it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from train.audit import Audit, audit
from train.config import TrainConfig
from train.examples.examples import Examples
from train.examples.protocol import Protocol

T = TypeVar("T")


class Inspection:
    """Remembers what it has found, for the other variants of a sweep."""

    def __init__(self) -> None:
        self._found: dict[Any, Any] = {}

    def survey(self, examples: Examples) -> list[str]:
        """Look at every feature of every utterance, and return what is odd, a line each.

        Raises:
            SerError: naming utterances whose features are damaged.
        """
        path, names, remarks = str(examples.store.path), tuple(examples.names), list[str]()
        for hearing in examples.streams.values():
            key = path, names, hearing.source.name, hearing.source.chosen, repr(hearing.front)
            remarks += self._once(key, partial(hearing.survey, examples.names))
        return remarks

    def audit(self, examples: Examples, protocol: Protocol, config: TrainConfig) -> Audit:
        """Look for leaks from one part of a fold into another."""
        targets, reads_frames = list(examples.metrics), config.audit == "frames"
        key = str(examples.store.path), protocol.sha256, tuple(targets), reads_frames
        return self._once(key, partial(audit, examples.store, examples.table, protocol, targets, reads_frames))

    def _once(self, key: Any, look: Callable[[], T]) -> T:
        if key not in self._found:
            self._found[key] = look()
        found: T = self._found[key]
        return found
