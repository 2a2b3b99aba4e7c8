"""The data: hidden states in the shape of HuBERT large, of utterances as long as IEMOCAP's, as files on the disk.

The values are real activations, tiled to 25 layers of 1024 channels and perturbed: never plain noise or zeros.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

import featurestore
from featurestore.access.feature_shard import FeatureShard
from featurestore.access.writer import StoreWriter
from featurestore.format.codec import Dtype, Floats
from featurestore.format.plan import FeaturePlan, FeatureSpec, Plan

LAYERS, DIM, HOP, RATE = 25, 1024, 0.02, 50
LAYER = 12
"""The one that is read where one is."""
MEAN_SECONDS, SPREAD, LEAST_SECONDS, MOST_SECONDS = 4.5, 0.62, 0.6, 34.0
SHARD_SECONDS = 164.0
FEATURE = "states"
ROW_BYTES = LAYERS * DIM * 2
POOL_FRAMES = 3000
Halves = npt.NDArray[np.float16]


@dataclass(frozen=True)
class Data:
    """The utterances, and the one raw file (utterance, layer, frame, channel) that everything else is made from.

    Attributes:
        folder: where everything about them is.
    """

    folder: Path

    @cached_property
    def frames(self) -> list[int]:
        """The length of each utterance."""
        return [int(n) for n in np.load(self.folder / "frames.npy")]

    @cached_property
    def names(self) -> list[str]:
        """The name of each utterance."""
        return [f"Ses01_utterance_{row:06d}" for row in range(len(self.frames))]

    @cached_property
    def order(self) -> list[int]:
        """All utterances, shuffled."""
        return [int(row) for row in np.random.default_rng(1).permutation(len(self.frames))]

    @cached_property
    def starts(self) -> list[int]:
        """The byte of the raw file at which each utterance begins."""
        return [int(n) * ROW_BYTES for n in np.cumsum([0, *self.frames[:-1]])]

    @property
    def raw(self) -> Path:
        """The raw file."""
        return self.folder / "raw.f16"

    @property
    def largest(self) -> int:
        """The bytes of the longest utterance."""
        return max(self.frames) * ROW_BYTES

    @cached_property
    def mapped(self) -> np.memmap:
        """The raw file's elements."""
        return np.memmap(self.raw, np.float16, "r")

    def place(self, row: int, layer: int | None) -> tuple[int, int]:
        """Return the byte of the raw file where an utterance, or one layer of it, begins, and its bytes."""
        size = self.frames[row] * DIM * 2
        return (self.starts[row], size * LAYERS) if layer is None else (self.starts[row] + layer * size, size)

    def bytes_of(self, rows: Sequence[int], layer: int | None = None) -> int:
        """Return the bytes that are asked for."""
        return sum(self.place(row, layer)[1] for row in rows)

    def values(self, row: int, layer: int | None = None) -> Halves:
        """Return an utterance as a view, (layers, frames, channels)."""
        begin, size = self.place(row, layer)
        return self.mapped[begin // 2 : (begin + size) // 2].reshape(-1, self.frames[row], DIM)


def draw_lengths(count: int, seed: int = 0) -> npt.NDArray[np.int64]:
    """Return lengths in frames with IEMOCAP's mean and spread."""
    mean = np.log(MEAN_SECONDS) - SPREAD**2 / 2
    seconds = np.random.default_rng(seed).lognormal(mean, SPREAD, count)
    return np.round(seconds.clip(LEAST_SECONDS, MOST_SECONDS) * RATE).astype(np.int64)


def make_raw(folder: Path, size: int, states: Path | None) -> None:
    """Write the raw file, of about ``size`` bytes; from the hidden states of a store, or of an untrained encoder."""
    lengths = draw_lengths(max(16, size // ROW_BYTES))
    lengths = lengths[: max(16, int(np.searchsorted(lengths.cumsum(), size // ROW_BYTES)))]
    np.save(folder / "frames.npy", lengths)
    pool = _spoken() if states is None else _stored(states)
    spread = pool.std(axis=1, keepdims=True)
    with open(folder / "raw.f16", "wb") as file:
        for row, count in enumerate(lengths.tolist()):
            file.write(_activations(pool, spread, count, np.random.default_rng(row)).astype(np.float16).data)


def _activations(pool: Floats, spread: Floats, count: int, rng: np.random.Generator) -> Floats:
    """Return consecutive frames of ``pool``, its layers and channels repeated, each scaled, and a little noise."""
    layers, channels = np.linspace(0, len(pool) - 1, LAYERS).round().astype(int), np.arange(DIM) % pool.shape[2]
    time = (rng.integers(pool.shape[1]) + np.arange(count)) % pool.shape[1]
    found: Floats = pool[np.ix_(layers, time, channels)]
    found *= rng.normal(1, 0.05, (LAYERS, 1, DIM)).astype(np.float32)
    noise = rng.standard_normal((count, DIM), np.float32)
    found += 0.02 * spread[np.ix_(layers, [0], channels)] * noise
    return found


def _stored(path: Path) -> Floats:
    """Return the frames of the first utterances of the feature with most layers."""
    store = featurestore.open(path)
    feature = max(store.features, key=lambda name: store.features[name].layers)
    found, frames = [], 0
    for name in store.names([feature]):
        if frames < POOL_FRAMES:
            found.append(store.feature(feature).read(name).decode())
            frames += found[-1].shape[1]
    return np.concatenate(found, axis=1)


def _spoken() -> Floats:
    """Return hidden states of the untrained encoder (fixed seed) on speech by Praat."""
    from extract.datasets.demo import SENTENCES
    from extract.features.encoder import Encoder
    from extract.speech import VOICES, speak

    waves = [speak(text, voice) for text in SENTENCES for voice in VOICES[::3]]
    computed = Encoder(checkpoint="hubert-tiny-untrained").build().compute(waves)
    return np.concatenate([one.frames for one in computed], axis=1)


def plan_store(path: Path, names: Sequence[str], frames: Sequence[int], dtype: Dtype, shard_seconds: float) -> None:
    """Plan a store of hidden states."""
    table = pd.DataFrame({"duration": np.array(frames) * HOP}, index=pd.Index(names, name="name"))
    spec = FeatureSpec(layers=LAYERS, dim=DIM, hop=HOP, dtype=dtype)
    writer = StoreWriter(path)
    with writer.lock():
        writer.plan(Plan.make(table, shard_seconds, dataset="benchmark"))
        writer.plan_feature(FEATURE, FeaturePlan(spec, np.array(frames), np.full(len(frames), 0.0125)))


def fill_store(path: Path, fill: Callable[[FeatureShard, str], None]) -> None:
    """Write all shards of a planned store, each utterance by ``fill(shard, name)``, and commit it."""
    writer = StoreWriter(path)
    with writer.lock():
        for number in writer.pending(FEATURE):
            with writer.shard(FEATURE, number) as shard:
                for name in shard.names:
                    fill(shard, name)
        writer.commit(FEATURE)


def make_store(data: Data, path: Path, dtype: Dtype = "float16", shard_seconds: float = SHARD_SECONDS) -> None:
    """Write the data as a store; the suffix chooses the form."""
    rows = {name: row for row, name in enumerate(data.names)}

    def add(shard: FeatureShard, name: str) -> None:
        shard.add(name, data.values(rows[name]).astype(np.float32))

    plan_store(path, data.names, data.frames, dtype, shard_seconds)
    fill_store(path, add)
