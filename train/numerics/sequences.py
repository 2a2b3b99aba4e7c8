"""Frames of a batch, padded to the longest utterance."""

from __future__ import annotations

from typing import NamedTuple

import torch


class Sequences(NamedTuple):
    """The frames of some utterances.

    Attributes:
        values: (batch, time, dim).
        mask: which frames are there and not padding, (batch, time).
    """

    values: torch.Tensor
    mask: torch.Tensor

    def repeated(self, times: int) -> Sequences:
        """Return them so many times, all utterances after all, (times x batch, time, dim)."""
        return self if times == 1 else Sequences(self.values.repeat(times, 1, 1), self.mask.repeat(times, 1))


class Packed(NamedTuple):
    """The frames of some utterances, one utterance after another.

    Attributes:
        values: (frames, views x dim).
        lengths: frames of each utterance, (batch,).
        views: how often the channels are there, side by side.
    """

    values: torch.Tensor
    lengths: torch.Tensor
    views: int = 1

    def one_after_another(self) -> Packed:
        """Return the views as utterances, all utterances of a view after all of another: (views x frames, dim)."""
        values = self.values.unflatten(1, (self.views, -1)).transpose(0, 1).flatten(0, 1)
        return Packed(values, self.lengths.repeat(self.views))

    def owners(self) -> torch.Tensor:
        """Return of which utterance each frame is, (frames,)."""
        return torch.arange(len(self.lengths), device=self.lengths.device).repeat_interleave(self.lengths)

    def places(self) -> torch.Tensor:
        """Return the number of each frame in its utterance, from 0, (frames,)."""
        return torch.arange(len(self.values), device=self.lengths.device) - self.begins()[self.owners()]

    def begins(self) -> torch.Tensor:
        """Return the first frame of each utterance, (batch,)."""
        return self.lengths.cumsum(dim=0) - self.lengths


def pad(packed: torch.Tensor, lengths: torch.Tensor) -> Sequences:
    """Return packed frames (frames, dim) as padded ones, zeros where an utterance has none.

    Args:
        packed: one utterance after another.
        lengths: frames of each, (batch,).
    """
    mask = torch.arange(int(lengths.max()), device=packed.device) < lengths.to(packed.device)[:, None]
    if bool(mask.all()):
        return Sequences(packed.view(*mask.shape, packed.shape[-1]), mask)
    values = packed.new_zeros(*mask.shape, packed.shape[-1])
    values[mask] = packed
    return Sequences(values, mask)
