"""Stretches of time and bands of channels that are not heard.

Source: Park, Chan, Zhang, Chiu, Zoph, Cubuk and Le (2019), SpecAugment: A Simple Data Augmentation Method for Automatic
Speech Recognition, Interspeech, without its warping of time.
"""

from __future__ import annotations

import torch
from pydantic import Field
from typing_extensions import override

from train.augmentations import OfFrames
from train.numerics.sequences import Packed


class SpecAugment(OfFrames):
    """Zeros in stretches and bands, drawn for each utterance: how wide, evenly from 0 on, then where."""

    times: int = Field(default=2, ge=0, le=100)
    """Number of stretches of time."""
    frames: int = Field(default=16, ge=1, le=10_000)
    """Frames of a stretch at most, and never more than half of the utterance."""
    bands: int = Field(default=2, ge=0, le=100)
    """Number of bands of channels."""
    channels: int = Field(default=6, ge=1, le=8192)
    """Channels of a band at most, and never more than half of them."""

    @override
    def changed(self, packed: Packed) -> torch.Tensor:
        values, owners, places = packed.values, packed.owners(), packed.places()
        channels = values.shape[1] // packed.views
        channel = torch.arange(channels, device=values.device).repeat(packed.views)
        for _ in range(self.times):
            begin, end = _drawn(packed.lengths, self.frames)
            values = values * ((places < begin[owners]) | (places >= end[owners]))[:, None]
        for _ in range(self.bands):
            begin, end = _drawn(torch.full_like(packed.lengths, channels), self.channels)
            heard = (channel < begin[:, None]) | (channel >= end[:, None])
            values = values * heard[owners]
        return values


def _drawn(lengths: torch.Tensor, most: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return where a stretch of each length begins and ends, of at most so many, and at most half of it."""
    wide = (torch.rand(len(lengths), device=lengths.device) * ((lengths // 2).clamp(max=most) + 1)).long()
    begin = (torch.rand(len(lengths), device=lengths.device) * (lengths - wide + 1)).long()
    return begin, begin + wide
