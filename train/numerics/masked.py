"""What padded batches need that torch's own layers lack: statistics and order of the frames that are there."""

from __future__ import annotations

import math

import torch
from torch import nn
from typing_extensions import override

WAVES = 10000.0
"""Longest wave of a position, in frames over two pi (Vaswani et al. 2017)."""


class MaskedBatchNorm(nn.BatchNorm1d):
    """Batch normalisation of frames (batch, time, dim) or (batch, time, bands, dim) by those of the mask alone.

    torch's own takes its statistics from the padding, too, so that they depend on which utterances share a batch.
    Frames of the padding come out as zeros.
    """

    @override
    def forward(self, frames: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        if frames.device.type != "cpu":
            return self.without_picking(frames, mask)
        if bool(mask.all()):
            return super().forward(frames.flatten(0, -2)).view_as(frames)
        there = frames[mask]
        found = there.new_zeros(frames.shape)
        found[mask] = super().forward(there.flatten(0, -2)).view_as(there)
        return found

    def without_picking(self, frames: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return the same by sums over the mask.

        Picking frames on a GPU makes the CPU wait, since only the GPU knows how many there are. On a CPU picking takes
        half the time.
        """
        there = mask.view(*mask.shape, *[1] * (frames.dim() - 2))
        frames = frames.masked_fill(~there, 0)
        mean, var = running = self.get_buffer("running_mean"), self.get_buffer("running_var")
        if self.training:
            count = mask.sum() * frames[0, 0, ..., 0].numel()
            over = list(range(frames.dim() - 1))
            mean = frames.sum(over, dtype=mean.dtype) / count
            var = ((frames - mean) * there).square().sum(over, dtype=mean.dtype) / count
            assert self.momentum is not None
            for kept, now in zip(running, (mean, var * count / (count - 1).clamp(min=1)), strict=True):
                kept.lerp_(now.detach(), self.momentum)
            self.get_buffer("num_batches_tracked").add_(1)
        scale = self.weight * (var + self.eps).rsqrt()
        return (frames * scale + (self.bias - mean * scale)) * there


def backwards(frames: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return each utterance with its frames in reverse order, and zeros in the padding.

    Args:
        frames: (batch, time, dim).
        mask: (batch, time), the frames of each utterance first.
    """
    time = torch.arange(mask.shape[1], device=mask.device)
    place = (mask.sum(dim=1, keepdim=True) - 1 - time).clamp(min=0)
    return frames.take_along_dim(place[..., None], dim=1) * mask[..., None]


def positions(time: int, dim: int, like: torch.Tensor) -> torch.Tensor:
    """Return sinusoids that tell where a frame is, (time, dim): sines, then cosines (Vaswani et al. 2017)."""
    count = (dim + 1) // 2
    waves = torch.exp(torch.arange(count, device=like.device) * (-math.log(WAVES) / max(1, count)))
    angles = torch.arange(time, device=like.device)[:, None] * waves
    return torch.cat([angles.sin(), angles.cos()], dim=1)[:, :dim].to(like.dtype)
