"""The plan of a store: which utterances, which shard each one is in, and where its frames lie.

A plan is a pure function of the labels, the lengths of the audio and the settings, so that every shard can be
made alone, anywhere, and made again with the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import Field

from featurestore.format.codec import Dtype
from featurestore.shared.config import Config
from featurestore.shared.errors import StoreError

PLACES = ("shard", "slot")
"""Columns of the utterance table that say where the frames of an utterance lie."""
FORMAT_VERSION = 2
CHUNK_FRAMES = 16
Ints = npt.NDArray[np.int64]
Seconds = npt.NDArray[np.float64]
Ranges = dict[str, tuple[float, float]]
Compress = Literal["zstd"]


def as_json_ranges(ranges: Ranges) -> dict[str, list[float]]:
    """Return ranges as the attributes of a store hold them."""
    return {target: list(scale) for target, scale in ranges.items()}


class FeatureSpec(Config):
    """The shape, data type and provenance of a feature, known before it is computed."""

    layers: int
    """Number of layers; 1 for a feature that has none."""
    dim: int
    """Number of channels."""
    hop: float = Field(ge=0)
    """Time between frames, in seconds; 0 if they have an order but no clock, such as the tokens of a text."""
    dtype: Dtype
    """How the frames are stored."""
    compress: Compress | None = None
    """Whether they are compressed, without loss."""
    channels: tuple[str, ...] = ()
    """The names of the channels, where they have any."""
    provenance: dict[str, Any] = Field(default_factory=dict)
    """``settings`` and ``weights``, which determine the values, and e.g. the ``versions`` of the libraries used."""

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
    """A feature, and the number and time of every utterance's frames.

    Attributes:
        spec: the feature.
        frames: number of frames of each utterance; 0 where the feature cannot be computed.
        times: the centre of each utterance's first frame, in seconds; of the utterance itself if there is no clock.
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
        left_out: the utterances that cannot be used and are not in the store, with the reason.
    """

    dataset: str
    table: pd.DataFrame
    ranges: Ranges = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    @classmethod
    def make(cls, table: pd.DataFrame, shard_seconds: float, **labels: Any) -> Plan:
        """Return the plan that fills shards in the order of ``table``, by its column ``duration`` (seconds).

        Raises:
            StoreError: if there is no utterance, or two have the same name, or a name is not text, or a column has a
                name that the store needs.
        """
        if not len(table):
            raise StoreError("found no utterance that can be used, expected one or more")
        odd = [name for name in table.index if not (isinstance(name, str) and name)]
        if odd:
            raise StoreError(f"found the name {odd[0]!r}, expected text that is not empty")
        taken = [column for column in table if not isinstance(column, str) or column in ("name", *PLACES)]
        if taken:
            raise StoreError(f"a column cannot be named {taken[0]!r}, the store has its own of that name: rename it")
        if not table.index.is_unique:
            twice = table.index[table.index.duplicated()].unique().tolist()
            raise StoreError(f"found names twice, expected unique ones: {', '.join(twice[:5])}")
        shard = assign_shards([table["duration"].to_numpy()], [shard_seconds])
        return cls(table=table.assign(shard=shard, slot=number_slots(shard)), **labels)


def assign_shards(sizes: Sequence[npt.NDArray[Any]], limits: Sequence[float]) -> Ints:
    """Return each utterance's shard: shards are filled in order up to the limits, but have at least one utterance.

    Args:
        sizes: of each utterance, in as many ways as there are limits (seconds, frames of a feature …).
        limits: of the sum of these sizes in a shard.

    >>> assign_shards([np.array([3.0, 3.0, 3.0, 20.0, 1.0])], [8.0]).tolist()
    [0, 0, 1, 2, 3]
    """
    shards, number, filled = [], 0, [0.0] * len(limits)
    for utterance in zip(*(size.tolist() for size in sizes), strict=True):
        after = [a + b for a, b in zip(filled, utterance, strict=True)]
        if any(filled) and any(a > limit for a, limit in zip(after, limits, strict=True)):
            number, after = number + 1, list(utterance)
        filled = after
        shards.append(number)
    return np.array(shards, np.int64)


def number_slots(shard: Ints, slots: int | None = None) -> Ints:
    """Return each utterance's slot; every shard has ``slots`` of them, when absent as many as the fullest needs.

    >>> number_slots(np.array([0, 0, 1])).tolist()
    [0, 1, 2]
    """
    rank = np.arange(len(shard)) - np.searchsorted(shard, shard)
    slot: Ints = shard * (slots or rank.max() + 1) + rank
    return slot


def count_slots(shard: Ints, slot: Ints) -> int:
    """Return how many slots each shard of a store has, given the shard and the slot of each utterance.

    >>> count_slots(np.array([0, 0, 1]), np.array([0, 1, 4]))
    4
    """
    first = int(np.searchsorted(shard, 1))
    return int(slot[first]) if first < len(shard) else int(slot.max()) + 1


def padded(frames: Ints) -> Ints:
    """Return the frames that utterances take up, which are whole chunks."""
    return frames + (-frames & CHUNK_FRAMES - 1)


def place_frames(frames: Ints, shard: Ints, shard_frames: int | None = None) -> tuple[Ints, int]:
    """Return where each utterance starts on the frame axis, and the number of frames of a shard.

    Every utterance starts on a chunk boundary, and none crosses a shard.

    >>> place_frames(np.array([20, 5, 40]), np.array([0, 0, 1]))
    (array([ 0, 32, 48]), 48)
    """
    taken = padded(frames)
    end = np.cumsum(taken)
    first = np.searchsorted(shard, shard)  # the first utterance in the same shard
    within = end - taken - (end - taken)[first]
    shard_frames = shard_frames or max(CHUNK_FRAMES, int((within + taken).max()))
    return shard * shard_frames + within, shard_frames
