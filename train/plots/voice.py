"""The level and the pitch of a voice over time, where a store has them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from featurestore.format.plan import Seconds
from train.numerics.metrics import Floats
from train.reading.corpora import AnyStore

LEVELS = ("intensity", "logmel")
"""Features whose mean over the channels is the level of the voice, the first that a store has."""


class Track(NamedTuple):
    """Something of a voice over time.

    Attributes:
        name: what it is, with its unit.
        times: of the middles of the frames, in seconds, (frames,).
        values: (frames,), NaN where there is none.
    """

    name: str
    times: Seconds
    values: Floats


def level_of(store: AnyStore, name: str) -> Track | None:
    """Return how loud an utterance is."""
    feature = next((feature for feature in LEVELS if feature in store.parts), None)
    if feature is None or name in store.parts[feature].failed:
        return None
    times, values = _read(store, feature, name)
    return Track(f"{feature} (mean)" if values.shape[1] > 1 else feature, times, values.mean(axis=1))


def pitch_of(store: AnyStore, name: str) -> Track | None:
    """Return its pitch in Hz, NaN where it has none."""
    if "pitch" not in store.parts or store.parts["pitch"].spec.channels[:1] != ("f0",):
        return None
    if name in store.parts["pitch"].failed:
        return None
    times, values = _read(store, "pitch", name)
    return Track("F0 (Hz)", times, np.where(values[:, 0] > 0, values[:, 0], np.nan))


def _read(store: AnyStore, feature: str, name: str) -> tuple[Seconds, Floats]:
    """Return the times of a feature, and its frames, (frames, dim)."""
    part = store.feature(feature)
    return part.times(name), np.asarray(part.read(name, None).decode()[0], np.float64)
