"""The clock of the frames that are pooled: that of a stream, but for what is cut off, and one frame for several."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from featurestore.format.plan import Seconds
from train.config import TrainConfig
from train.examples.hearing import Hearing


def pooled_hop(streams: Mapping[str, Hearing], config: TrainConfig) -> float:
    """Return the seconds from one frame that is pooled to the next, 0 where they have no clock."""
    return _pooled_stream(streams, config).hop * _pooled_every(streams, config)


def pooled_times(streams: Mapping[str, Hearing], config: TrainConfig, name: str) -> tuple[Seconds, bool]:
    """Return where the frames of an utterance are that are pooled when it is predicted.

    Of one that a temporal model gives for several, it is where the first of them is.

    Returns:
        Seconds, and True; the numbers of the frames, and False where they have no clock.
    """
    hearing = _pooled_stream(streams, config)
    if config.fusion.pools:
        return np.zeros(1), False
    times = hearing.source.times(name) if hearing.has_clock else None
    count = hearing.source.part.frames(name) if hearing.front.keeps_time else 1
    found = np.arange(count, dtype=np.float64) if times is None else np.asarray(times, np.float64)
    for one in config.augment:
        found = found[slice(*one.span(len(found), hearing.hop, training=False))]
    return found[:: _pooled_every(streams, config)], times is not None


def _pooled_stream(streams: Mapping[str, Hearing], config: TrainConfig) -> Hearing:
    return list(streams.values())[config.fusion.clock]


def _pooled_every(streams: Mapping[str, Hearing], config: TrainConfig) -> int:
    """Return for how many frames of the stream one is pooled."""
    alone = len(streams) == 1 or config.fusion.own_clocks
    return config.temporal.every * (_pooled_stream(streams, config).stream.temporal.every if alone else 1)
