"""Pitch at an encoder's frame times, on synthetic glides whose F0 and voicing are known, at lengths 1 ms apart.

python tests/benchmarks/extraction/glides.py

Each sound is two harmonic glides around a pause. Prints the error of F0 in semitones and the share of right voicing
decisions, away from the boundaries of voicing by 40 ms (the window), for our alignment by time and for `f0[::2]`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from cyclopts import App

from extract.audio import SAMPLING_RATE, Wave
from extract.encoders.backbone import FRAME_SAMPLES
from extract.encoders.waveform import WaveformBackbone
from extract.features.pitch import Pitch
from featurestore.shared.command import run, say, say_table
from train.numerics.align import align_pitch

app = App(name="glides", help=__doc__)
LENGTHS = range(600, 1200)
"""Milliseconds."""
RANGES = ((90.0, 180.0), (120.0, 260.0), (300.0, 150.0), (220.0, 400.0))
HARMONICS, PAUSE, AWAY = 8, 0.15, 0.04
SETTINGS = {
    "ac": {},
    "ac, very accurate": {"very_accurate": True},
    "cc": {"method": "cc"},
    "ac, two passes": {"two_pass": True, "ceiling_factor": 2.5},
}
Aligned = Callable[[np.ndarray, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


@app.default
def main(*, every: int = 1) -> None:
    """Measure every method at every length.

    Args:
        every: only the first of so many lengths, for a first look.
    """
    rows, lengths = [], LENGTHS[::every]
    for name, settings in SETTINGS.items():
        pitch = Pitch(**settings).build()  # type: ignore[arg-type]
        ways: dict[str, Aligned] = {name: by_time}
        if name == "ac":
            ways["ac, f0[::2]"] = every_other
        found = {way: ([], []) for way in ways}  # type: ignore[var-annotated]
        for number, milliseconds in enumerate(lengths):
            wave, f0, boundaries = glides(milliseconds * SAMPLING_RATE // 1000, *RANGES[number % len(RANGES)])
            (computed,) = pitch.compute([wave])
            frames, first = pitch.place(len(wave))
            times = first + pitch.feature.hop * np.arange(frames)
            clock = encoder_times(len(wave))
            sure = np.abs(clock[:, None] - boundaries).min(axis=1) >= AWAY
            for way, align in ways.items():
                log_f0, voiced = align(computed.frames[0, :, 0], times, clock)
                expected = f0(clock)
                both = sure & voiced & (expected > 0)
                found[way][0].append(12 * np.abs(log_f0[both] / np.log(2) - np.log2(expected[both])))
                found[way][1].append(voiced[sure] == (expected[sure] > 0))
        for way, (errors, decisions) in found.items():
            error = np.concatenate(errors)
            right = np.concatenate(decisions)
            worst = min(decision.mean() for decision in decisions)
            figures = (f"{np.median(error):.4f}", f"{np.quantile(error, 0.95):.4f}", f"{right.mean():.2%}")
            rows.append((way, *figures, f"{worst:.0%}", len(right)))
    say(f"{len(lengths)} lengths from {lengths[0]} to {lengths[-1]} ms, at the frame times of an encoder")
    header = ("method", "median semitones", "95 %", "right voicing", "of the worst length", "frames")
    say_table(header, rows)


def encoder_times(samples: int) -> np.ndarray:
    frames = WaveformBackbone.count_frames(samples)
    return WaveformBackbone.FIRST_FRAME + FRAME_SAMPLES / SAMPLING_RATE * np.arange(frames)


def glides(samples: int, low: float, high: float) -> tuple[Wave, Callable[[np.ndarray], np.ndarray], np.ndarray]:
    """Return two glides around a pause, their F0 at any times (0 where unvoiced), and the boundaries of voicing."""
    seconds = samples / SAMPLING_RATE
    boundaries = np.array([0.0, (seconds - PAUSE) / 2, (seconds + PAUSE) / 2, seconds])

    def f0(times: np.ndarray) -> np.ndarray:
        voiced = (times < boundaries[1]) | (times >= boundaries[2])
        return np.where(voiced, low * (high / low) ** (times / seconds), 0.0)

    times = np.arange(samples) / SAMPLING_RATE
    phase = 2 * np.pi * np.cumsum(low * (high / low) ** (times / seconds)) / SAMPLING_RATE
    tone = sum(np.sin(k * phase) / k for k in range(1, HARMONICS + 1))
    hiss = 1e-4 * np.random.default_rng(samples).normal(size=samples)
    return (0.2 * tone * (f0(times) > 0) + hiss).astype(np.float32), f0, boundaries


def by_time(f0: np.ndarray, times: np.ndarray, clock: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ours: voicing of the nearest pitch frame, log-F0 interpolated in time."""
    placed = align_pitch(f0 > 0, times, clock)
    log_f0 = np.log(np.where(f0 > 0, f0, 1.0))
    here, there = log_f0[placed.frame], log_f0[placed.other]
    return here + placed.weight * (there - here), (f0 > 0)[placed.frame] & placed.covered


def every_other(f0: np.ndarray, _: np.ndarray, clock: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What is often done: every other frame of 10 ms is taken for one of 20 ms."""
    chosen = np.pad(f0[::2], (0, max(0, len(clock) - len(f0[::2]))))[: len(clock)]
    return np.log(np.where(chosen > 0, chosen, 1.0)), chosen > 0


if __name__ == "__main__":
    run(app)
