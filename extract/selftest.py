"""Test on the user's own machine that hidden states do not depend on what else is in the batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from extract.audio import SAMPLING_RATE, Wave
from extract.features.encoder import Encoder, EncoderExtractor
from extract.speech import VOICES, speak
from featurestore.format.codec import Floats
from featurestore.shared.command import say, say_table

SECONDS = (0.025, 0.05, 0.1, 0.3, 0.7, 1.0, 2.0, 3.3, 5.0, 8.0, 12.0, 20.0, 30.0)
SEED = 0
LIMITS = {"float32": 5e-6, "float16": 3e-3, "bfloat16": 2.5e-2}
"""The largest relative L2 error of a layer, by precision of the computation."""
LARGEST = 3e-5
"""The largest error of one value in float32, in standard deviations of its layer (at least 1)."""
BATCH_SECONDS = 100.0  # no utterance is alone in its batch
TEXT = "The letter is lying on the table, and she will be back in an hour, when they have carried it upstairs."


def say_selftest(encoder: Encoder) -> int:
    """Print how far the states of each utterance in a shuffled batch are from those of the utterance alone.

    Returns:
        The exit code: 0 if all are within the limits, otherwise 1.
    """
    settings = {**encoder.to_dict(), "batch_seconds": BATCH_SECONDS}
    batched, precise = (Encoder(**{**settings, "precision": p}).build() for p in (encoder.precision, "float32"))
    waves = speech_for(batched)
    together = compute_shuffled(batched, waves)
    rows, passed = [], True
    for i, wave in enumerate(waves):
        (alone,) = precise.compute([wave])
        relative, largest = errors(together[i], alone.frames)
        good = within_limits(encoder.precision, relative, largest)
        passed &= good
        seconds, verdict = f"{len(wave) / SAMPLING_RATE:g}", "yes" if good else "NO"
        rows.append((seconds, alone.frames.shape[1], f"{relative:.1e}", f"{largest:.1e}", verdict))
    say(f"{encoder.key}, {encoder.precision}: {len(waves)} utterances in shuffled batches beside each alone in float32")
    say_table(("seconds", "frames", "relative L2 error", "largest error / sd", "within the limits"), rows)
    limit = f"relative L2 {LIMITS[encoder.precision]:g}"
    limit += f", largest {LARGEST:g}" if encoder.precision == "float32" else ""
    say(f"{'passed' if passed else 'FAILED'}: the worst layer of each utterance, limits {limit}")
    return 0 if passed else 1


def compute_shuffled(encoder: EncoderExtractor, waves: Sequence[Wave]) -> dict[int, Floats]:
    """Return the states (layers, frames, dim) of each waveform by its position, computed in a shuffled order."""
    order = np.random.default_rng(SEED).permutation(len(waves))
    return {int(order[one.position]): one.frames for one in encoder.compute([waves[i] for i in order])}


def speech_for(encoder: EncoderExtractor) -> list[Wave]:
    """Return speech of each length in `SECONDS` that is not too short for the encoder, at different levels.

    A sentence is repeated until it is long enough.
    """
    waves = []
    for number, seconds in enumerate(SECONDS):
        samples = round(seconds * SAMPLING_RATE)
        spoken = speak(TEXT, VOICES[number % len(VOICES)])
        try:
            encoder.place(samples)
        except ValueError:
            continue
        wave = np.tile(spoken[SAMPLING_RATE // 4 :], -(-samples // (len(spoken) - SAMPLING_RATE // 4)))[:samples]
        waves.append((wave * 10 ** (-number / 20)).astype(np.float32))
    return waves


def within_limits(precision: str, relative: float, largest: float) -> bool:
    """Return whether `errors` are within what rounding makes in this precision."""
    return relative <= LIMITS[precision] and (precision != "float32" or largest <= LARGEST)


def errors(found: Floats, alone: Floats) -> tuple[float, float]:
    """Return the largest relative L2 error of a layer, and the largest error of a value in units of its layer."""
    pairs = list(zip(found.astype(np.float64), alone.astype(np.float64), strict=True))
    relative = max(float(np.linalg.norm(a - b) / np.linalg.norm(b)) for a, b in pairs)
    largest = max(float(np.abs(a - b).max() / max(1.0, b.std())) for a, b in pairs)
    return relative, largest
