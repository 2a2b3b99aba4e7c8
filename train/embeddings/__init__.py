"""Embeddings: from the frames of a stream to the width at which a fusion takes them."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import nn

from featurestore.config import Component


class Embedding(Component, ABC):
    """A way to embed the frames of a stream."""

    @abstractmethod
    def build(self, dim: int, width: int) -> nn.Module:
        """Return a module from frames (batch, time, dim) and mask (batch, time) to (batch, time, width).

        What the padding holds does not change the frames of the mask.
        """
