"""A part of each utterance: anywhere in a training step, the middle when it is predicted."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import torch
from pydantic import Field
from typing_extensions import override

from featurestore.shared.errors import SerError
from train.augmentations import Augmentation
from train.fusions import Fusion
from train.reading.batch import Span


class TimeCrop(Augmentation):
    """The stored frames of at most some seconds; a shorter utterance is heard whole, and not padded."""

    cuts: ClassVar[bool] = True

    seconds: float = Field(default=3.0, gt=0, le=3600)
    """That are heard, by the clock of the first stream."""

    @override
    def check(self, streams: Iterable[str], fusion: Fusion) -> None:
        if fusion.own_clocks:
            raise SerError(f"augment: time_crop needs streams on one clock, with fusion={fusion.name} each has its own")

    @override
    def span(self, length: int, hop: float, training: bool) -> Span:
        heard = max(1, round(self.seconds / hop)) if hop else length
        spare = max(0, length - heard)
        begin = int(torch.randint(spare + 1, ())) if training else spare // 2
        return begin, min(length, begin + heard)
