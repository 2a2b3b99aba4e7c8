"""A store in the shape of WavLM large or HuBERT large, with utterances as long as IEMOCAP's, of random numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from states import DIM, HOP, LAYERS, MOST_SECONDS, RATE, draw_lengths

from featurestore.access.feature_shard import FeatureShard
from featurestore.access.writer import StoreWriter
from featurestore.format.plan import FeaturePlan, FeatureSpec, Plan

SPEAKERS, SHARD_SECONDS = 10, 164.0
STEP = 997
"""From the place where the states of one utterance begin to those of the next, in frames of the pool."""
FRAME_BYTES = LAYERS * DIM
"""As int8."""


def make_store(path: Path, minutes: float) -> None:
    """Write a store with hidden states in int8, pitch, and labels."""
    lengths = draw_lengths(round(minutes * 60))
    lengths = lengths[: int(np.searchsorted(lengths.cumsum(), minutes * 60 * RATE)) + 1]
    rng, names = np.random.default_rng(0), [f"u{row:05d}" for row in range(len(lengths))]
    labels = {target: rng.uniform(1, 5, len(names)) for target in "VAD"}
    speakers = [f"s{row % SPEAKERS}" for row in range(len(names))]
    table = pd.DataFrame({"speaker": speakers, "duration": lengths * HOP, **labels}, pd.Index(names, name="name"))
    states = FeatureSpec(layers=LAYERS, dim=DIM, hop=HOP, dtype="int8")
    pitch = FeatureSpec(layers=1, dim=2, hop=HOP / 2, dtype="float32", channels=("f0", "voiced"))
    pool = rng.standard_normal((LAYERS, 2 * round(MOST_SECONDS * RATE), DIM), np.float32)
    frames = dict(zip(names, lengths.tolist(), strict=True))

    def add_states(shard: FeatureShard, name: str) -> None:
        begin = int(name[1:]) * STEP % (pool.shape[1] - int(lengths.max()))  # the audit finds those that are the same
        shard.add(name, pool[:, begin : begin + frames[name]])

    def add_pitch(shard: FeatureShard, name: str) -> None:
        f0 = rng.uniform(80, 300, 2 * frames[name]) * (rng.random(2 * frames[name]) < 0.6)
        shard.add(name, np.stack([f0, f0 > 0], axis=-1).astype(np.float32)[None])

    writer = StoreWriter(path)
    with writer.lock():
        writer.plan(Plan.make(table, SHARD_SECONDS, dataset="random", ranges=dict.fromkeys("VAD", (1.0, 5.0))))
        writer.plan_feature("states", FeaturePlan(states, lengths, np.full(len(names), 0.0125)))
        writer.plan_feature("pitch", FeaturePlan(pitch, 2 * lengths, np.full(len(names), 0.02)))
        for feature, add in {"states": add_states, "pitch": add_pitch}.items():
            for number in writer.pending(feature):
                with writer.shard(feature, number) as shard:
                    for name in shard.names:
                        add(shard, name)
            writer.commit(feature)
