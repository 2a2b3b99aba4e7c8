"""Embeddings: from the frames of a stream to the width at which a fusion takes them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import nn

from featurestore.shared.config import Component


class Embedding(Component, ABC):
    """A way to embed the frames of a stream."""

    each_alone: ClassVar[bool] = False
    """Whether it looks at each frame alone: its module then also takes (frames, dim) without a mask, and no padding."""

    def width_of(self, dim: int, width: int) -> int:
        """Return the channels of a frame that has ``dim`` before, where ``width`` is asked for."""
        return width

    @abstractmethod
    def build(self, dim: int, width: int) -> nn.Module:
        """Return a module from frames (batch, time, dim) and mask (batch, time) to (batch, time, `width_of`).

        What the padding holds does not change the frames of the mask.
        """
