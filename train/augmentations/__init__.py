"""Augmentations: what a training step changes of what a model hears, so that no two epochs are alike.

They draw from torch's generator, which every step seeds by the model's own seed, the epoch and the step: a model has
the same bits whatever else is trained. Frames are changed as the fronts give them, standardised: zero is the mean.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from typing_extensions import override

from featurestore.shared.config import Component
from featurestore.shared.errors import SerError
from train.fusions import Fusion
from train.numerics.sequences import Packed
from train.reading.batch import Batch, Span


@dataclass(frozen=True)
class Mix:
    """Which other utterance is in each one.

    Attributes:
        partners: the number in the batch of the other one, (batch,).
        share: of the utterance itself, in [0, 1].
    """

    partners: torch.Tensor
    share: float


@dataclass(frozen=True)
class Heard:
    """What a model hears of a batch.

    Attributes:
        batch: that it is of.
        streams: the frames of each, as its front gives them; without those that a fusion takes as they are stored.
        mix: how utterances are mixed, if they are.
    """

    batch: Batch
    streams: dict[str, Packed]
    mix: Mix | None = None


class Augmentation(Component, ABC):
    """A change of what is heard."""

    cuts: ClassVar[bool] = False
    """Whether it hears a part of each utterance alone, when it predicts, too; see `span`."""

    def check(self, streams: Iterable[str], fusion: Fusion) -> None:
        """Check that it can be of these streams and their fusion.

        Raises:
            SerError: if not.
        """

    def span(self, length: int, hop: float, training: bool) -> Span:
        """Return which frames of the clock are heard of an utterance.

        Args:
            length: its frames.
            hop: seconds from one to the next.
            training: whether it is a training step.
        """
        return 0, length

    def change(self, heard: Heard) -> Heard:
        """Return what is heard in a training step."""
        return heard


class OfFrames(Augmentation):
    """A change of the frames of some streams, each by itself."""

    streams: tuple[str, ...] | None = None
    """The names of the streams that are changed; all when absent."""

    @override
    def check(self, streams: Iterable[str], fusion: Fusion) -> None:
        there = list(streams)
        absent = [name for name in self.streams or () if name not in there]
        if absent:
            raise SerError(f"augment: {self.name} is of {', '.join(absent)}; the streams are {', '.join(there)}")

    @override
    def change(self, heard: Heard) -> Heard:
        changed: Mapping[str, Packed] = {
            name: packed._replace(values=self.changed(packed))
            for name, packed in heard.streams.items()
            if self.streams is None or name in self.streams
        }
        return replace(heard, streams={**heard.streams, **changed})

    @abstractmethod
    def changed(self, packed: Packed) -> torch.Tensor:
        """Return other frames of one stream, (frames, dim)."""
