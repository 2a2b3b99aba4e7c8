"""Streams that are not heard, so that a model does not rest on one of them alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import torch
from pydantic import Field
from typing_extensions import override

from featurestore.shared.errors import SerError
from train.augmentations import Augmentation, Heard
from train.fusions import Fusion


class StreamDropout(Augmentation):
    """Zeros in place of a stream of some utterances; one stream is always heard."""

    share: float = Field(default=0.2, gt=0, lt=1)
    """Of the utterances for which a stream is left out, each stream drawn by itself."""

    @override
    def check(self, streams: Iterable[str], fusion: Fusion) -> None:
        there = list(streams)
        if len(there) < 2:
            raise SerError(f"augment: stream_dropout needs two or more streams, found {there[0]}")
        if fusion.knows_absence:
            raise SerError(
                f"augment: stream_dropout gives zeros of a stream, and fusion={fusion.name} is told which are absent: "
                "take fusion.lost"
            )

    @override
    def change(self, heard: Heard) -> Heard:
        first = next(iter(heard.streams.values()))
        shape = (len(heard.streams), len(first.lengths))
        there = torch.rand(shape, device=first.values.device) >= self.share
        kept = torch.randint(shape[0], (shape[1],), device=first.values.device)
        there[kept, torch.arange(shape[1])] |= ~there.any(dim=0)
        streams = {
            name: packed._replace(values=packed.values * one[packed.owners()][:, None])
            for one, (name, packed) in zip(there, heard.streams.items(), strict=True)
        }
        return replace(heard, streams=streams)
