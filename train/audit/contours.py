"""How an utterance sounds over time, whatever its level: a few smooth contours, from log-mel or hidden states.

They are those of J. Haitsma and T. Kalker (2002), A highly robust audio fingerprinting system: energies of bands over
long windows that overlap, of which the signs of differences between bands and between times are kept as words.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from featurestore.access.statistics import corpus_statistics
from featurestore.format.codec import Floats
from train.audit.findings import is_log_mel
from train.reading.corpora import AnyFeature

BANDS = 25
"""Contours, and one more than the bits of a word."""
HOP = 0.02
"""Seconds between frames, about."""
SMOOTH = (7, 4)
"""Frames of the two averages that smooth a contour: where frames lie between those of a copy hardly matters then."""
APART = 5
"""Frames between which a difference in time is taken."""
FLOOR = {"ln": 11.5, "db": 50.0}
"""How far below the utterance's largest value smaller ones count as that, by the unit of log-mel: 50 dB."""
QUIET = {"ln": 3.5, "db": 15.0}
"""How far below the largest mean over bands a frame has no word."""
Ints = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Words:
    """The words of an utterance, and the frames in which they are."""

    words: Numbers
    frames: Numbers


class Contours:
    """Makes contours of the utterances of a feature.

    Args:
        part: log-mel, or the hidden states of an encoder, of which one layer is read.
        names: of the utterances, by which hidden states are standardised.
    """

    def __init__(self, part: AnyFeature, names: list[str]) -> None:
        self._part = part
        self._pool = max(1, round(HOP / part.spec.hop))
        self._unit = dict(part.spec.provenance.get("settings", {})).get("unit", "ln")
        self._log_mel = is_log_mel(part.spec.provenance)
        self._layer = part.spec.layers - 1  # the first ones of Whisper hold where a frame is more than what it holds
        if not self._log_mel:
            mean, sd = (moments[self._layer] for moments in corpus_statistics(part, names))
            self._mean, self._sd = mean, np.maximum(sd, 1e-6)
            self._mix = np.random.default_rng(0).choice([-1.0, 1.0], (part.spec.dim, BANDS)).astype(np.float32)

    def contours(self, name: str) -> Floats:
        """Return (frames, bands), at about `HOP`, smooth."""
        from scipy.ndimage import uniform_filter1d

        values = self._part.read(name, np.array([self._layer])).decode()[0]
        rows = len(values) // self._pool * self._pool
        values = values[:rows].reshape(-1, self._pool, values.shape[1]).mean(axis=1) if rows else values[:1]
        banded = self._bands(values) if self._log_mel else (values - self._mean) / self._sd @ self._mix
        for size in SMOOTH:
            banded = uniform_filter1d(banded, size, axis=0, mode="nearest")
        return banded.astype(np.float32)

    def _bands(self, values: Floats) -> Floats:
        values = np.maximum(values, values.max() - FLOOR.get(self._unit, FLOOR["ln"]))
        begins = np.linspace(0, values.shape[1], min(BANDS, values.shape[1]) + 1).astype(int)
        sums = np.add.reduceat(values, begins[:-1], axis=1)
        return (sums / np.diff(begins)).astype(np.float32)

    def words(self, contours: Floats) -> Words:
        """Return the words of the frames that are not quiet."""
        slopes = np.diff(contours, axis=1)
        signs = slopes[APART:] - slopes[:-APART] > 0
        words = signs @ (1 << np.arange(signs.shape[1], dtype=np.int32))
        if not self._log_mel:
            return Words(words, np.arange(len(words), dtype=np.int32))
        level = contours[APART:].mean(axis=1)
        loud = level > level.max(initial=-np.inf) - QUIET.get(self._unit, QUIET["ln"])
        frames = np.flatnonzero(loud).astype(np.int32)
        return Words(words[frames], frames)


def alikeness(first: Floats, second: Floats, lag: int, least: int, around: int = 1) -> tuple[float, int]:
    """Return the largest normalised cross-correlation of contours near a lag, and its lag; what is constant is out.

    Args:
        first: (frames, bands).
        second: (frames, bands).
        lag: how many frames later the second has what the first has.
        least: frames that must overlap; less gives 0.
        around: lags on both sides that are tried.

    Returns:
        At most 1. The mean over time of each band is taken away first, so that level and colour do not count.
    """
    best = (0.0, lag)
    for shift in range(lag - around, lag + around + 1):
        a, b = first[max(0, -shift) :], second[max(0, shift) :]
        length = min(len(a), len(b))
        if length < least:
            continue
        a, b = a[:length] - a[:length].mean(axis=0), b[:length] - b[:length].mean(axis=0)
        size = float(np.sqrt((a * a).sum() * (b * b).sum()))
        best = max(best, (float((a * b).sum()) / size if size else 0.0, shift))
    return best
