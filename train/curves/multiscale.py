"""Utterances as tokens: chunks of random lengths pooled in a pyramid, and streams of which some may be missing.

Source: W.-C. Lin, L. Goncalves and C. Busso, Enhancing resilience to missing data in audio-text emotion recognition
with multi-scale chunk regularization (2023).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812, the field's name for it
from torch import nn

from train.numerics.sequences import Sequences

LEVELS = (1, 2, 4)
"""Parts of equal length into which a chunk is cut, the mean of each of which is kept."""
PARTS = sum(LEVELS)
SHORT = 5
"""Frames below which a chunk is its mean, as often as it would have parts."""
ADDED = 2
"""Tokens before those of a stream: one for the whole, and one that says whether the stream is there."""


def pyramid(values: torch.Tensor, begins: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
    """Return the means of the `PARTS` of each chunk, (batch, chunks, parts x dim); no chunk is copied for it.

    Args:
        values: (batch, time, dim).
        begins: first frame of each chunk, (batch, chunks).
        ends: the frame after its last one, (batch, chunks).
    """
    sums = F.pad(values.double().cumsum(dim=1), (0, 0, 1, 0))
    rows, length, means = torch.arange(len(values), device=values.device)[:, None], ends - begins, []
    for level in LEVELS:
        for part in range(level):
            whole = length < SHORT
            first = torch.where(whole, begins, begins + part * length // level)
            last = torch.where(whole, ends, begins + (part + 1) * length // level)
            means.append((sums[rows, last] - sums[rows, first]) / (last - first)[..., None])
    return torch.cat(means, dim=-1).to(values.dtype)


def spread(lengths: torch.Tensor, counts: torch.Tensor, frames: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return where chunks begin, from the first frame to the last, and which are there, (batch, chunks) each.

    Args:
        lengths: frames of each utterance, (batch,).
        counts: chunks of each, two or more, (batch,).
        frames: of a chunk of each, (batch,).
    """
    number = torch.arange(int(counts.max()), device=lengths.device)
    there = number < counts[:, None]
    room, gaps = (lengths - frames).clamp(min=0)[:, None], (counts - 1)[:, None]
    return torch.where(there, (2 * number * room + gaps) // (2 * gaps), 0), there


def around(middles: torch.Tensor, begins: torch.Tensor, lengths: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
    """Return where chunks begin that lie around some frames, or as near as they can be in the utterance.

    Args:
        middles: of the first chunks, in frames from the beginning, (batch, tokens), NaN where there is none.
        begins: of those without, (batch, chunks).
        lengths: frames of each utterance, (batch,).
        frames: of a chunk of each, (batch,).
    """
    middles = F.pad(middles, (0, begins.shape[1] - middles.shape[1]), value=torch.nan)
    found = (middles - frames[:, None] / 2).round().clamp(min=0).minimum((lengths - frames).clamp(min=0)[:, None])
    return torch.where(found.isnan(), begins, found.nan_to_num().long())


def cropped(begins: torch.Tensor, ends: torch.Tensor, shares: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a piece of each chunk, at a random place in it: one of the shares of its length, drawn for each."""
    whole = ends - begins
    share = shares[torch.randint(len(shares), begins.shape, device=begins.device)]
    length = (share * whole).round().long().clamp(min=1)
    first = begins + (torch.rand(begins.shape, device=begins.device) * (whole - length + 1)).long()
    return first, first + length


class Attending(nn.Module):
    """Tokens attend to tokens, their own or others, and pass two layers; each step is added and then normalised."""

    def __init__(self, dim: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(dim, heads, batch_first=True)
        self.pass_on = nn.Sequential(
            nn.Linear(dim, hidden, bias=False), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, dim, bias=False)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(2))
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: torch.Tensor, others: Sequences) -> torch.Tensor:
        """Return tokens (batch, time, dim) after they have attended to others."""
        values, mask = others
        answer, _ = self.attention(tokens, values, values, key_padding_mask=~mask, need_weights=False)
        tokens = self.norms[0](tokens + self.dropout(answer))
        found: torch.Tensor = self.norms[1](tokens + self.dropout(self.pass_on(tokens)))
        return found


class TokenStream(nn.Module):
    """Tokens of one stream, (batch, time, dim_in) -> (batch, 2 + time, dim), the first of which is of the whole."""

    def __init__(self, dim_in: int, dim: int, dropout: float) -> None:
        super().__init__()
        self.project = nn.Linear(dim_in, dim, bias=False)
        self.whole = nn.Parameter(torch.ones(dim))
        self.presence = nn.Parameter(0.02 * torch.randn(2, dim))
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Sequences, there: torch.Tensor) -> Sequences:
        """Return the tokens; those of an utterance of which the stream is not ``there``, (batch,), are masked."""
        values, mask = tokens
        first = torch.stack([self.whole.expand(len(values), -1), self.presence[there.long()]], dim=1)
        found = torch.cat([first, self.project(values)], dim=1)
        found = found + positions(found.shape[1], found.shape[2]).to(found)
        return Sequences(self.dropout(found), F.pad(mask & there[:, None], (ADDED, 0), value=True))


def positions(count: int, dim: int) -> torch.Tensor:
    """Return sines and cosines of each place, (count, dim); A. Vaswani et al. (2017), Attention is all you need."""
    angles = torch.arange(count)[:, None] * torch.exp(-math.log(10_000) * torch.arange(0, dim, 2) / dim)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)[:, :dim]
