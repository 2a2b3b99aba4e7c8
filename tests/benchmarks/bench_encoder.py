"""Exact batches against the two ways in use: one file after another, and everything padded into a batch.

python tests/benchmarks/bench_encoder.py [CHECKPOINT] [UTTERANCES] [ROUNDS]

Prints, for each way, the best time of some rounds that take turns, its ratio to ours, and the largest relative L2
error of an utterance against that utterance alone. The speech is Praat's; the default checkpoint is untrained.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch

from extract.audio import Wave
from extract.datasets.demo import SENTENCES
from extract.features.encoder import Encoder
from extract.speech import VOICES, speak

States = list[np.ndarray]
BATCH = 16


def ours(encoder: Encoder, waves: Sequence[Wave]) -> States:
    return [one.frames for one in sorted(encoder.compute(waves), key=lambda one: one.position)]


def one_by_one(encoder: Encoder, waves: Sequence[Wave]) -> States:
    return [next(encoder.compute([wave])).frames for wave in waves]


def padded(encoder: Encoder, waves: Sequence[Wave]) -> States:
    """Zeros at the end and an attention mask, as the feature extractors of transformers do it."""
    backbone, found = encoder._backbone, []
    for start in range(0, len(waves), BATCH):
        batch = [torch.from_numpy(_normalised(w, backbone.normalize)) for w in waves[start : start + BATCH]]
        samples = torch.nn.utils.rnn.pad_sequence(batch, batch_first=True)
        mask = torch.arange(samples.shape[1]) < torch.tensor([len(wave) for wave in batch])[:, None]
        with torch.inference_mode(), backbone.recorded() as states:
            backbone.model(samples, attention_mask=mask.long())
        for row, wave in enumerate(batch):
            frames = encoder.place(len(wave))[0]
            found.append(torch.stack([state[row, :frames] for state in states]).numpy())
    return found


def _normalised(wave: Wave, normalize: bool) -> Wave:
    return (wave - wave.mean()) / np.sqrt(wave.var() + 1e-7) if normalize else wave


def largest_error(found: States, exact: States) -> float:
    return max(float(np.linalg.norm(f - e) / np.linalg.norm(e)) for f, e in zip(found, exact, strict=True))


def main(checkpoint: str = "hubert-tiny-untrained", utterances: str = "96", rounds: str = "3") -> None:
    """Run the benchmark; the checkpoint is one that reads waveforms."""
    encoder = Encoder(checkpoint=checkpoint)
    waves = [speak(SENTENCES[i % len(SENTENCES)], VOICES[i % len(VOICES)]) for i in range(int(utterances))]
    ways: dict[str, Callable[[Encoder, Sequence[Wave]], States]] = {
        "exact batches": ours,
        "one by one": one_by_one,
        "padded batches": padded,
    }
    best, found = dict.fromkeys(ways, math.inf), {}
    for _ in range(int(rounds)):
        for name, way in ways.items():
            start = time.perf_counter()
            found[name] = way(encoder, waves)
            best[name] = min(best[name], time.perf_counter() - start)
    seconds = sum(map(len, waves)) / 16_000
    print(f"{checkpoint}, {len(waves)} utterances, {seconds:.0f} s of speech, {torch.get_num_threads()} threads")
    for name in ways:
        error = largest_error(found[name], found["one by one"])
        ratio = best[name] / best["exact batches"]
        print(f"{name:16s}{best[name]:8.2f} s  {ratio:5.2f} x  relative error {error:.1e}")


if __name__ == "__main__":
    main(*sys.argv[1:])
