"""Utterances with some of another one in them, whose labels both count.

Source: Zhang, Cisse, Dauphin and Lopez-Paz (2018), mixup: Beyond Empirical Risk Minimization, ICLR. The loss is that of
both labels, each by its share, which for the cross-entropy is that of the mixed labels.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from pydantic import Field
from typing_extensions import override

from train.augmentations import Augmentation, Heard, Mix
from train.numerics.sequences import Packed


class Mixup(Augmentation):
    """``share * own + (1 - share) * other``, frame by frame from the beginning; nothing where the other has ended."""

    alpha: float = Field(default=0.2, gt=0, le=100)
    """The share is drawn from Beta(alpha, alpha) once a step: near 0 or 1 where alpha is small."""
    steps: float = Field(default=1.0, gt=0, le=1)
    """Share of the steps in which utterances are mixed."""

    @override
    def change(self, heard: Heard) -> Heard:
        if float(torch.rand(())) >= self.steps:
            return heard
        share = float(torch.distributions.Beta(self.alpha, self.alpha).sample())
        partners = torch.randperm(len(heard.batch.rows))
        streams = {
            name: one._replace(values=share * one.values + (1 - share) * of_partners(one, partners))
            for name, one in heard.streams.items()
        }
        return replace(heard, streams=streams, mix=Mix(partners, share))


def of_partners(packed: Packed, partners: torch.Tensor) -> torch.Tensor:
    """Return in place of each frame that of the partner of its utterance, (frames, dim), zeros after its end."""
    owners, places = partners.to(packed.lengths.device)[packed.owners()], packed.places()
    there = places < packed.lengths[owners]
    frames = torch.where(there, packed.begins()[owners] + places, 0)
    return packed.values[frames] * there[:, None]
