"""Convolutions over time and bands of a spectrogram, each followed by a pooling that halves both.

Source: the CNNs on log-mel spectrograms of the reference systems (three blocks of 3 x 3, batch norm, ReLU, maximum),
with the kernels of several sizes and the squeeze and excitation (Hu, Shen and Sun 2018) of one of them as settings.
There a spectrogram of fixed length is flattened; here the bands of each frame are, and a pooling follows, so that any
length will do.
"""

from __future__ import annotations

import torch
from pydantic import Field, field_validator
from torch import nn
from typing_extensions import override

from train.numerics.layers import WIDEST
from train.numerics.masked import MaskedBatchNorm
from train.numerics.sequences import Sequences
from train.temporal import Temporal, TemporalModule


class MelCNN(Temporal):
    """Blocks of convolution, batch norm, ReLU, and the maximum of two frames and two bands."""

    channels: tuple[int, ...] = (32, 64, 128)
    """Of each block."""
    kernels: tuple[int, ...] = (3,)
    """Frames and bands that the convolutions of the first block see, side by side, each with its channels; odd."""
    squeeze: int | None = Field(default=None, gt=0, le=WIDEST)
    """Channels for one of which squeeze and excitation has a unit, in each block; it is not there when absent."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of channels that a training step leaves out after each block, the same in a whole utterance."""

    @field_validator("channels")
    @classmethod
    def _are_some(cls, channels: tuple[int, ...]) -> tuple[int, ...]:
        if not 1 <= len(channels) <= 8 or not all(0 < count <= WIDEST for count in channels):
            raise ValueError(f"expected 1 to 8 numbers from 1 to {WIDEST}, found {list(channels)}")
        return channels

    @field_validator("kernels")
    @classmethod
    def _are_odd(cls, kernels: tuple[int, ...]) -> tuple[int, ...]:
        if not 1 <= len(kernels) <= 8 or not all(0 < kernel < 100 and kernel % 2 for kernel in kernels):
            raise ValueError(f"expected 1 to 8 odd numbers below 100, found {list(kernels)}")
        return kernels

    @property
    @override
    def every(self) -> int:
        return int(2 ** len(self.channels))

    @override
    def build(self, dim: int) -> TemporalModule:
        return SpectrogramBlocks(dim, self)


class SpectrogramBlocks(TemporalModule):
    """See `MelCNN`; the channels of a frame of the spectrogram are its bands."""

    def __init__(self, dim: int, settings: MelCNN) -> None:
        super().__init__()
        self.blocks, before, bands = nn.ModuleList(), 1, dim
        for number, count in enumerate(settings.channels):
            kernels = (3,) if number else settings.kernels
            self.blocks.append(SpectrogramBlock(before, count, kernels, settings))
            before, bands = count * len(kernels), -(-bands // 2)
        self.dim = before * bands

    @override
    def forward(self, frames: torch.Tensor, mask: torch.Tensor) -> Sequences:
        image = (frames * mask[..., None])[:, None]
        for block in self.blocks:
            image, mask = block(image, mask)
        return Sequences(image.transpose(1, 2).flatten(2), mask)


class SpectrogramBlock(nn.Module):
    """Images (batch, channels, time, bands), mask (batch, time) -> the same of half as many frames and bands.

    The padding is zeros before and after. The channels of a place lie together in memory, where a CPU normalises and
    pools them several times as fast.
    """

    def __init__(self, before: int, channels: int, kernels: tuple[int, ...], settings: MelCNN) -> None:
        super().__init__()
        after = channels * len(kernels)
        self.convolutions = nn.ModuleList(nn.Conv2d(before, channels, kernel, padding="same") for kernel in kernels)
        self.norm = MaskedBatchNorm(after)
        self.excite = SqueezeExcitation(after, settings.squeeze) if settings.squeeze else None
        self.dropout = nn.Dropout2d(settings.dropout)

    @override
    def forward(self, image: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        seen = [convolution(image).contiguous(memory_format=torch.channels_last) for convolution in self.convolutions]
        places = self.norm(torch.cat(seen, dim=1).permute(0, 2, 3, 1), mask).relu()
        image = nn.functional.max_pool2d(places.permute(0, 3, 1, 2), 2, ceil_mode=True)  # nothing is below the padding
        if self.excite is not None:
            image = image * self.excite(places, mask)  # above zero, so that the largest stays the largest
        return self.dropout(image), mask[:, ::2]


class SqueezeExcitation(nn.Module):
    """Shares of channels between 0 and 1, which a small network takes from the means of all."""

    def __init__(self, channels: int, squeeze: int) -> None:
        super().__init__()
        few = max(1, channels // squeeze)
        self.shares = nn.Sequential(nn.Linear(channels, few), nn.ReLU(), nn.Linear(few, channels), nn.Sigmoid())

    @override
    def forward(self, places: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Places (batch, time, bands, channels), with zeros in the padding, and mask -> (batch, channels, 1, 1)."""
        means = places.mean(dim=(1, 2)) * (places.shape[1] / mask.sum(dim=1, keepdim=True))
        return self.shares(means)[:, :, None, None]
