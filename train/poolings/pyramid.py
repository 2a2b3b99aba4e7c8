"""A temporal pyramid: means of the whole, of its halves, of its quarters, side by side, whatever its length.

Source: spatial pyramid pooling (He, Zhang, Ren and Sun 2015) over time. Parts of an utterance are as long as its length
has it; a frame on the border of two counts for both, so that each has one even where there are fewer frames than parts.
"""

from __future__ import annotations

import torch
from pydantic import field_validator
from typing_extensions import override

from train.poolings import Pooling, PoolingModule

MOST_PARTS = 128


class Pyramid(Pooling):
    """The mean of each part of each level, side by side."""

    levels: tuple[int, ...] = (1, 2, 4)
    """Parts into which each level divides an utterance."""

    @field_validator("levels")
    @classmethod
    def _are_some(cls, levels: tuple[int, ...]) -> tuple[int, ...]:
        if not levels or min(levels) < 1 or sum(levels) > MOST_PARTS:
            raise ValueError(f"expected one or more numbers of parts, {MOST_PARTS} in all, found {list(levels)}")
        return levels

    @override
    def build(self, dim: int) -> PoolingModule:
        return PyramidPooling(dim, self.levels)


class PyramidPooling(PoolingModule):
    """See `Pyramid`."""

    def __init__(self, dim: int, levels: tuple[int, ...]) -> None:
        super().__init__()
        self.levels, self.dim = levels, dim * sum(levels)

    @override
    def forward(self, frames: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        shares = torch.cat([part_shares(mask, parts) for parts in self.levels], dim=1)
        return torch.bmm(shares.to(frames.dtype), frames).flatten(1)


def part_shares(mask: torch.Tensor, parts: int) -> torch.Tensor:
    """Return with which share each frame counts for the mean of each part, (batch, parts, time).

    Part k of n is the frames from floor(k * length / n) to ceil((k + 1) * length / n), as torch's adaptive average has
    it.

    >>> part_shares(torch.ones(1, 3, dtype=torch.bool), 2).tolist()
    [[[0.5, 0.5, 0.0], [0.0, 0.5, 0.5]]]
    """
    lengths, number = mask.sum(dim=1, keepdim=True), torch.arange(parts, device=mask.device)
    begin, end = number * lengths // parts, -(-(number + 1) * lengths // parts)
    time = torch.arange(mask.shape[1], device=mask.device)
    inside = (time >= begin[..., None]) & (time < end[..., None])
    return inside / (end - begin)[..., None]
