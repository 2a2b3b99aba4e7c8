"""Fusions: from the streams of a model to one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from torch import nn

from featurestore.config import Component


class FusionModule(nn.Module):
    """A fusion: `Sequences` by stream, in the order of the config -> `Sequences` of ``dim`` channels.

    What the padding holds does not change the frames of the mask.
    """

    dim: int


class Fusion(Component, ABC):
    """A way to fuse streams."""

    least: ClassVar[int] = 2
    """Streams that it takes at least."""
    most: ClassVar[int | None] = None
    """Streams that it takes at most; any number when absent."""
    pools: ClassVar[bool] = False
    """Whether it gives one frame of each utterance."""

    @property
    def own_clocks(self) -> bool:
        """Whether streams keep the clocks that they have; otherwise all are brought onto that of the first."""
        return False

    def width_of_others(self, width: int) -> int:
        """Return the channels of the streams after the first, of which that has ``width``."""
        return width

    @abstractmethod
    def build(self, widths: Mapping[str, int]) -> FusionModule:
        """Return the module for streams of so many channels."""
