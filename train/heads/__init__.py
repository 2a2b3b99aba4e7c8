"""Heads: from the vector of an utterance to its targets."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import nn

from featurestore.shared.config import Component


class Head(Component, ABC):
    """A way to predict."""

    @abstractmethod
    def build(self, dim: int, outputs: int) -> nn.Module:
        """Return a module from (batch, dim) to (batch, outputs): one output per dimension, or per category."""
