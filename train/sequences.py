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
