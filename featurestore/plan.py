"""The plan of a store: which utterances, which shard each one is in, and where its frames lie.

A plan is a pure function of the labels, the lengths of the audio and the settings, so that every shard can be
made alone, anywhere, and made again with the same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import Field

from featurestore.codec import Dtype
from featurestore.config import Config
from featurestore.errors import StoreError

FORMAT_VERSION = 1
CHUNK_FRAMES = 16
Ints = npt.NDArray[np.int64]
Seconds = npt.NDArray[np.float64]


class FeatureSpec(Config):
    """What a feature is, known before anything runs."""

    layers: int
    """Number of layers; 1 for a feature that has none."""
    dim: int
    """Number of channels."""
    hop: float
    """Time between frames, in seconds."""
    dtype: Dtype
    """How the frames are stored."""
    channels: tuple[str, ...] = ()
    """The names of the channels, where they have any."""
    provenance: dict[str, Any] = Field(default_factory=dict)
    """``settings`` and ``weights``, which make the feature what it is, and ``versions`` of the libraries used."""

    def differences(self, other: FeatureSpec) -> list[str]:
        """Return one line for each setting in which ``other`` is not the same feature."""
        mine, theirs = self._identity(), other._identity()
        return [
            f"{key}: {mine.get(key)} in the store, {theirs.get(key)} asked for"
            for key in dict.fromkeys([*mine, *theirs])
            if mine.get(key) != theirs.get(key)
        ]

    def _identity(self) -> dict[str, Any]:
        values = self.to_dict()
        provenance = values.pop("provenance")
        return {**values, **provenance.get("settings", {}), "weights": provenance.get("weights")}


@dataclass(frozen=True)
class FeaturePlan:
    """A feature and the place of every utterance's frames.

    Attributes:
        spec: the feature.
        frames: number of frames of each utterance.
        times: the time of each utterance's first frame, in seconds: the centre of its window.
    """

    spec: FeatureSpec
    frames: Ints
    times: Seconds


@dataclass(frozen=True)
class Plan:
    """A dataset's utterances and the shard of each.

    Attributes:
        dataset: its name.
        table: one row per utterance, indexed by name. `make` adds ``shard``, and ``slot``: its place on the axis of
            the arrays that hold one value per utterance.
        ranges: the scale on which V, A and D are declared.
        left_out: the utterances that cannot be used, with the reason.
    """

    dataset: str
    table: pd.DataFrame
    ranges: dict[str, tuple[float, float]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    @classmethod
    def make(cls, table: pd.DataFrame, shard_seconds: float, **labels: Any) -> Plan:
        """Return the plan that fills shards in the order of ``table``, by its column ``duration`` (seconds).

        Raises:
            StoreError: if there is no utterance, or two have the same name.
        """
        if table.empty:
            raise StoreError("there is no utterance that can be used")
        if not table.index.is_unique:
            twice = table.index[table.index.duplicated()].unique().tolist()
            raise StoreError(f"names must be unique, found twice: {', '.join(twice[:5])}")
        shard = assign_shards(table["duration"].to_numpy(), shard_seconds)
        rank = np.arange(len(shard)) - np.searchsorted(shard, shard)
        slot = shard * (rank.max() + 1) + rank
        return cls(table=table.assign(shard=shard, slot=slot), **labels)


def assign_shards(durations: Seconds, shard_seconds: float) -> Ints:
    """Return each utterance's shard: shards are filled in order, each up to ``shard_seconds`` or one utterance.

    >>> assign_shards(np.array([3.0, 3.0, 3.0, 20.0, 1.0]), 8.0).tolist()
    [0, 0, 1, 2, 3]
    """
    shards, number, filled = [], 0, 0.0
    for duration in durations.tolist():
        if filled and filled + duration > shard_seconds:
            number, filled = number + 1, 0.0
        filled += duration
        shards.append(number)
    return np.array(shards, np.int64)


def place_frames(frames: Ints, shard: Ints) -> tuple[Ints, int]:
    """Return where each utterance starts on the frame axis, and the number of frames of a shard.

    Every utterance starts on a chunk boundary, and none crosses a shard.

    >>> place_frames(np.array([20, 5, 40]), np.array([0, 0, 1]))
    (array([ 0, 32, 48]), 48)
    """
    padded = -(-frames // CHUNK_FRAMES) * CHUNK_FRAMES
    end = np.cumsum(padded)
    first = np.searchsorted(shard, shard)  # of the utterance's shard
    within = end - padded - (end - padded)[first]
    shard_frames = max(CHUNK_FRAMES, int((within + padded).max()))
    return shard * shard_frames + within, shard_frames
