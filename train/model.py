"""The model: hidden states -> layer sum -> projection -> fusion with pitch -> pooling -> head -> targets."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from train.config import TrainConfig
from train.layers import LayerSum


@dataclass
class Batch:
    """Some utterances; frames are packed one utterance after another.

    Attributes:
        rows: positions in the examples, (batch,).
        lengths: frames of each, (batch,).
        states: hidden states, (layers, frames, dim).
        pitch: aligned with the states, (frames, 2), as `train.examples` reads it, or None.
        targets: (batch, targets), scaled to the declared range; class numbers (batch,) for a classification.
    """

    rows: torch.Tensor
    lengths: torch.Tensor
    states: torch.Tensor
    pitch: torch.Tensor | None
    targets: torch.Tensor

    def select(self, chosen: torch.Tensor) -> Batch:
        """Return the utterances for which ``chosen`` (batch,) is true."""
        frames = torch.repeat_interleave(chosen, self.lengths)
        return Batch(
            self.rows[chosen],
            self.lengths[chosen],
            self.states[:, frames],
            None if self.pitch is None else self.pitch[frames],
            self.targets[chosen],
        )

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device."""
        pitch = None if self.pitch is None else self.pitch.to(device)
        rows, lengths, states, targets = (
            part.to(device) for part in (self.rows, self.lengths, self.states, self.targets)
        )
        return Batch(rows, lengths, states, pitch, targets)


class PitchNorm(nn.Module):
    """Log-F0 normalised where voiced, zero elsewhere.

    Args:
        mean: of log-F0 over the voiced frames of the training part.
        sd: the same.
    """

    def __init__(self, mean: float, sd: float) -> None:
        super().__init__()
        self.mean: torch.Tensor
        self.sd: torch.Tensor
        self.register_buffer("mean", torch.tensor(mean))
        self.register_buffer("sd", torch.tensor(sd))

    def forward(self, pitch: torch.Tensor) -> torch.Tensor:  # noqa: D102
        height, voiced = pitch.unbind(dim=-1)
        return torch.stack([(height - self.mean) / self.sd * voiced, voiced], dim=-1)


class Model(nn.Module):
    """From a batch to one output per dimension, or per category.

    Args:
        config: the settings of its parts.
        layers: the layer sum.
        pitch_norm: of the pitch contour.
        outputs: number of outputs.
    """

    def __init__(self, config: TrainConfig, layers: LayerSum, pitch_norm: PitchNorm, outputs: int) -> None:
        super().__init__()
        self.layers, self.pitch_norm = layers, pitch_norm
        self.dropout = nn.Dropout1d(config.dropout)
        self.project = nn.Linear(layers.mean.shape[1], config.width)
        self.fusion = config.fusion.build(config.width)
        self.pooling = config.pooling.build(self.fusion.dim)
        self.head = config.head.build(self.pooling.dim, outputs)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.layers.logits.device

    def forward(self, batch: Batch) -> torch.Tensor:
        """Return (batch, outputs)."""
        mask = torch.arange(int(batch.lengths.max()), device=batch.lengths.device) < batch.lengths[:, None]
        audio = pad(self.layers(batch.states), mask)
        audio = self.project(self.dropout(audio.transpose(1, 2)).transpose(1, 2))
        pitch = None if batch.pitch is None else pad(self.pitch_norm(batch.pitch), mask)
        return self.head(self.pooling(self.fusion(audio, pitch, mask), mask))


def pad(packed: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return packed frames (frames, dim) as (batch, time, dim), zeros where the mask (batch, time) has no frame."""
    padded = packed.new_zeros(*mask.shape, packed.shape[-1])
    padded[mask] = packed
    return padded
