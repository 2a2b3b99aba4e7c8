"""Embeddings of the pitch contour: from two channels a frame to the width of the fusion."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import nn

from featurestore.config import Component

PITCH_CHANNELS = 2
"""Log-F0 and voicing."""


class Embedding(Component, ABC):
    """A way to embed the pitch contour."""

    @abstractmethod
    def build(self, width: int) -> nn.Module:
        """Return a module from pitch (batch, time, 2) and mask (batch, time) to (batch, time, width)."""
