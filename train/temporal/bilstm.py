"""A bidirectional LSTM (Hochreiter and Schmidhuber 1997; torch's)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from typing_extensions import override

from train.numerics.layers import WIDEST
from train.numerics.masked import backwards
from train.numerics.sequences import Sequences
from train.temporal import Temporal, TemporalModule


class BiLSTM(Temporal):
    """Two LSTMs, one from each end, side by side."""

    hidden: int = Field(default=128, gt=0, le=WIDEST // 2)
    """Width of each direction; a frame has twice as many channels."""
    layers: int = Field(default=1, ge=1, le=32)
    """One upon another."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of channels that a training step leaves out between layers, in each frame anew."""

    @override
    def build(self, dim: int) -> TemporalModule:
        return BothDirections(dim, self)


class BothDirections(TemporalModule):
    """See `BiLSTM`; each utterance is read to its end and no further.

    It always computes in float32: in half precision the sum that a cell keeps over many frames drifts, and autocast
    would give a GPU float16 where bfloat16 was asked for.
    """

    def __init__(self, dim: int, settings: BiLSTM) -> None:
        super().__init__()
        between = settings.dropout if settings.layers > 1 else 0.0  # torch warns of dropout that is nowhere
        self.lstm = nn.LSTM(
            dim, settings.hidden, settings.layers, batch_first=True, bidirectional=True, dropout=between
        )
        self.dim = 2 * settings.hidden

    @override
    def forward(self, frames: torch.Tensor, mask: torch.Tensor) -> Sequences:
        read = self.without_packing if frames.device.type == "cpu" else self.packed
        with torch.autocast(frames.device.type, enabled=False):
            return Sequences(read(frames.float(), mask), mask)

    def packed(self, frames: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return what both directions hold at each frame, (batch, time, dim), zeros in the padding."""
        packed = pack_padded_sequence(frames, mask.sum(dim=1).cpu(), batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=mask.shape[1])[0]

    def without_packing(self, frames: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return the same, each direction reading its own order of the padded frames.

        A training step on a CPU takes half as long: packed frames add to the gradient of all weights at each of them.
        """
        weights = iter(self.lstm.all_weights)
        for layer in range(self.lstm.num_layers):
            if layer:
                frames = nn.functional.dropout(frames, self.lstm.dropout, self.training)
            ahead = self._read(frames, next(weights))
            back = backwards(self._read(backwards(frames, mask), next(weights)), mask)
            frames = torch.cat([ahead, back], dim=-1)
        return frames * mask[..., None]

    def _read(self, frames: torch.Tensor, weights: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return what one direction of one layer holds at each frame; padding at the end changes none before."""
        nothing = frames.new_zeros(1, len(frames), self.lstm.hidden_size)
        return torch.lstm(frames, (nothing, nothing), tuple(weights), True, 1, 0.0, self.training, False, True)[0]
