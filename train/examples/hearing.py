"""What is heard: streams, the features that they read, and the utterances that lack some."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from featurestore.format.plan import Ints
from featurestore.shared.errors import SerError
from train.fronts import Front
from train.fusions import Fusion
from train.reading.labels import grouped, some
from train.reading.sources import Source
from train.streams import Stream


@dataclass(frozen=True)
class Hearing:
    """A stream and the feature that it reads.

    Attributes:
        stream: its settings.
        source: the feature.
        lacking: utterances among the examples that the feature has failed for.
    """

    stream: Stream
    source: Source
    lacking: frozenset[str] = frozenset()

    @property
    def front(self) -> Front:
        """How it is heard."""
        assert self.stream.front is not None  # it is resolved
        return self.stream.front

    @property
    def has_clock(self) -> bool:
        """Whether its frames have times."""
        return self.source.spec.hop > 0 and self.front.keeps_time

    @property
    def hop(self) -> float:
        """Seconds between two of its frames, 0 where they have no times."""
        return self.source.spec.hop if self.has_clock else 0.0

    @property
    def own_hop(self) -> float:
        """The same of the frames that its temporal model gives."""
        return self.hop * self.stream.temporal.every

    def survey(self, names: list[str]) -> list[str]:
        """Look at the feature of every utterance once, and return what is odd, a line each.

        Raises:
            SerError: naming utterances of which it is damaged.
        """
        remarks = self.front.survey(self.source, self.having(names))
        if not self.source.spec.hop:
            remarks.append(f"{self.source.name} has no clock: a frame is a token, or the whole utterance")
        return remarks

    def having(self, names: Sequence[str]) -> list[str]:
        """Return those utterances that have the feature."""
        return [name for name in names if name not in self.lacking]

    def trained_on(self, names: Sequence[str]) -> list[str]:
        """Return those utterances that have the feature.

        Raises:
            SerError: if none has.
        """
        having = self.having(names)
        if not having:
            raise SerError(
                f"none of {some(names)} to be trained on has {self.source.name}: extract it again, choose other "
                "splits, or leave its stream out"
            )
        return having

    def lengths(self, rows: Ints) -> Ints:
        """Return the frames of some rows of the store's table."""
        found = self.source.part.lengths[rows]
        return found if self.front.keeps_time else np.ones_like(found)


def without_features(failed: Mapping[str, Mapping[str, str]], fusion: Fusion) -> dict[str, str]:
    """Return the utterances that lack a feature, with the reason; of a fusion that knows absence those that lack all.

    Args:
        failed: the utterances for which the feature of each stream has failed, with the reason.
        fusion: of the streams.
    """
    reasons = {name: why for of in failed.values() for name, why in of.items()}
    if not fusion.knows_absence:
        return reasons
    heard = [of for name, of in failed.items() if name not in fusion.raw]
    return {name: why for name, why in reasons.items() if all(name in of for of in heard)}


def lacking_lines(hearings: Mapping[str, Hearing], names: Sequence[str]) -> list[str]:
    """Return a line for each stream that some utterances lack, and each reason."""
    lines = []
    for name, hearing in hearings.items():
        failed = hearing.source.part.failed
        lines += [
            f"without {name}: {line}" for line in grouped((one, failed[one]) for one in names if one in hearing.lacking)
        ]
    return lines
