"""Fusions of the audio frames with the pitch contour, frame by frame."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import nn

from featurestore.config import Component


class FusionModule(nn.Module):
    """A fusion: audio (batch, time, audio_dim), pitch (batch, time, 2), mask (batch, time) -> (batch, time, dim).

    What the padding holds does not change the frames of the mask.
    """

    dim: int


class Fusion(Component, ABC):
    """A way to fuse audio and pitch."""

    uses_pitch: ClassVar[bool] = True

    @abstractmethod
    def build(self, audio_dim: int) -> FusionModule:
        """Return the module for audio frames of ``audio_dim`` channels."""
