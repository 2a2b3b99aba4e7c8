"""Chunk attentions: how the chunks of an utterance hear each other, and how much each counts for the whole.

Source: W.-C. Lin and C. Busso, Chunk-level speech emotion recognition (2021).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import nn

from featurestore.shared.config import Component


class ChunkAttentionModule(nn.Module):
    """A chunk attention: vectors (batch, chunks, dim_in) -> vectors (batch, chunks, dim), weights (batch, chunks).

    The weights of an utterance are not negative, and their sum is 1.
    """

    dim: int


class ChunkAttention(Component, ABC):
    """A way to attend over chunks."""

    weighs: ClassVar[bool] = False
    """Whether its weights depend on what the chunks are; otherwise all count the same."""

    @abstractmethod
    def build(self, dim: int) -> ChunkAttentionModule:
        """Return the module for vectors of ``dim`` channels."""


def even(vectors: torch.Tensor) -> torch.Tensor:
    """Return weights by which every chunk counts the same, (batch, chunks)."""
    return vectors.new_full(vectors.shape[:2], 1 / vectors.shape[1])
