"""Bringing a feature onto the clock of another by the times of their frames, never by index or stretching."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Seconds = npt.NDArray[np.float64]


def nearest_frames(times: Seconds, clock: Seconds) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
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


def align_pitch(f0: Floats, times: Seconds, clock: Seconds) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Return log-F0 and voicing at the times of ``clock``.

    Voicing is that of the nearest pitch frame; log-F0 is interpolated linearly in time inside a voiced stretch, and
    is that of the nearest frame at its edges. Where the contour has no frame, the answer is unvoiced.

    Args:
        f0: of each pitch frame, in Hz, 0 where unvoiced.
        times: of the pitch frames, in seconds.
        clock: the times asked for, in seconds.

    Returns:
        The natural logarithm of F0 in Hz (0 where unvoiced), and whether each time is voiced.
    """
    nearest, covered = nearest_frames(times, clock)
    voiced = (f0[nearest] > 0) & covered
    log_f0 = np.log(np.where(f0 > 0, f0, 1.0)).astype(np.float64)
    other = np.clip(np.where(clock < times[nearest], nearest - 1, nearest + 1), 0, len(times) - 1)
    step = times[other] - times[nearest]
    inside = voiced & (f0[other] > 0) & (step != 0)
    weight = np.where(inside, (clock - times[nearest]) / np.where(step == 0, 1.0, step), 0.0)
    value = log_f0[nearest] + weight * (log_f0[other] - log_f0[nearest])
    return np.where(voiced, value, 0.0).astype(np.float32), voiced
