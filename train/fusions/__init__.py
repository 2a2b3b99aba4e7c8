"""Fusions: from the streams of a model to one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar

from torch import nn

from featurestore.shared.config import Component
from featurestore.shared.errors import SerError


class FusionModule(nn.Module):
    """A fusion: `Sequences` by stream, in the order of the config -> `Sequences` of ``dim`` channels.

    Of each stream ``values`` are (batch, time, channels), and ``mask``, (batch, time), says which frames are there and
    not padding. Unless the fusion has ``own_clocks``, frame t of every stream is of the same time. What the padding
    holds does not change the frames of the mask.

    Attributes:
        dim: channels.
        absent: streams that are missing, of all utterances.
        gone: of a stream the share of its tokens, or chunks, that are missing of them, drawn by torch's generator.
        absences: what may be absent, and which share of the loss, and of the score that selects, is without it; the
            last one is that nothing is.
    """

    dim: int
    absent: frozenset[str] = frozenset()
    gone: Mapping[str, float] = MappingProxyType({})
    absences: tuple[tuple[frozenset[str], float], ...] = ((frozenset(), 1.0),)


class Fusion(Component, ABC):
    """A way to fuse streams."""

    least: ClassVar[int] = 2
    """Streams that it takes at least."""
    most: ClassVar[int | None] = None
    """Streams that it takes at most; any number when absent."""
    pools: ClassVar[bool] = False
    """Whether it gives one frame of each utterance."""
    knows_absence: ClassVar[bool] = False
    """Whether it is told which streams are absent (``absent`` and ``gone`` of its module), learns it by its setting
    ``lost``, and hears utterances that lack some, whose masks are empty there. Its streams keep their clocks."""

    @property
    def own_clocks(self) -> bool:
        """Whether streams keep the clocks that they have; otherwise all are brought onto that of the first."""
        return False

    @property
    def raw(self) -> dict[str, tuple[str, ...]]:
        """Streams that it takes as they are stored, and the channels that each has; they say when others are heard."""
        return {}

    def on_clocks(self, hops: Mapping[str, float]) -> Fusion:
        """Return it for streams whose frames are so many seconds apart; 0 of those that have no clock.

        Raises:
            SerError: if it cannot be of such streams.
        """
        return self

    @property
    def clock(self) -> int:
        """The number of the stream on whose clock its frames are."""
        return 0

    def width_of_others(self, width: int) -> int:
        """Return the channels of the streams after the first, of which that has ``width``."""
        return width

    @abstractmethod
    def build(self, widths: Mapping[str, int]) -> FusionModule:
        """Return the module for streams of so many channels."""


def one_width(fusion: Fusion, widths: Mapping[str, int]) -> int:
    """Return the width that all streams have.

    Raises:
        SerError: if they have several.
    """
    first, *others = widths.values()
    if any(width != first for width in others):
        found = ", ".join(map(str, widths.values()))
        raise SerError(
            f"fusion={fusion.name} takes streams of one width, found {found}: see streams.NAME.width, and what its "
            "temporal model gives"
        )
    return first


def check_heads(heads: int, width: int) -> None:
    """Check that heads divide the width of the streams.

    Raises:
        SerError: if not.
    """
    if width % heads:
        raise SerError(f"fusion.heads ({heads}) must divide the width of the streams ({width})")
