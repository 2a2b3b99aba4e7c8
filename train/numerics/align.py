"""Bringing a stream onto the clock of another by the times of their frames, never by index or stretching."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Seconds = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Alignment:
    """Where the frames of an utterance are for each time of a clock: between two of them, or nowhere.

    Attributes:
        frame: the nearest one.
        other: the one on the other side of that time.
        weight: share of the other one, 0 where the nearest counts alone.
        covered: whether the nearest one covers that time; otherwise there is nothing, which is zero.
    """

    frame: Ints
    other: Ints
    weight: Floats
    covered: npt.NDArray[np.bool_]


def nearest_frames(times: Seconds, clock: Seconds) -> tuple[Ints, npt.NDArray[np.bool_]]:
    """Return the frame of ``times`` (ascending) nearest to each time of ``clock``, and whether it covers that time.

    A frame covers what is nearer to it than one hop.

    >>> nearest_frames(np.array([0.02, 0.03, 0.04]), np.array([0.0, 0.0325, 0.1]))
    (array([0, 1, 2]), array([False,  True, False]))
    """
    after = np.clip(np.searchsorted(times, clock), 1, max(1, len(times) - 1))
    before = after - 1
    if len(times) == 1:
        nearest, hop = np.zeros(len(clock), np.int64), np.inf
    else:
        nearest = np.where(clock - times[before] <= times[after] - clock, before, after)
        hop = times[1] - times[0]
    return nearest, np.abs(times[nearest] - clock) < hop


def align_nearest(times: Seconds, clock: Seconds) -> Alignment:
    """Return for each time of ``clock`` the frame nearest to it."""
    frame, covered = nearest_frames(times, clock)
    return Alignment(frame, frame, np.zeros(len(clock), np.float32), covered)


def align_repeated(count: int) -> Alignment:
    """Return the only frame of an utterance, ``count`` times."""
    frame = np.zeros(count, np.int64)
    return Alignment(frame, frame, np.zeros(count, np.float32), np.ones(count, bool))


def align_pitch(voiced: npt.NDArray[np.bool_], times: Seconds, clock: Seconds) -> Alignment:
    """Return where a pitch contour is at the times of ``clock``.

    Voicing is that of the nearest pitch frame; log-F0 is interpolated linearly in time inside a voiced stretch, and
    is that of the nearest frame at its edges.

    Args:
        voiced: whether each pitch frame is.
        times: of the pitch frames, in seconds.
        clock: the times asked for, in seconds.
    """
    frame, covered = nearest_frames(times, clock)
    other = np.clip(np.where(clock < times[frame], frame - 1, frame + 1), 0, len(times) - 1)
    step = times[other] - times[frame]
    inside = voiced[frame] & covered & voiced[other] & (step != 0)
    weight = np.where(inside, (clock - times[frame]) / np.where(step == 0, 1.0, step), 0.0)
    return Alignment(frame, other, weight.astype(np.float32), covered)
