"""The pitch contour by Praat: F0 in Hz and voicing, on Praat's own grid of times.

Sources: P. Boersma (1993), Accurate short-term analysis of the fundamental frequency and the harmonics-to-noise ratio
of a sampled sound (autocorrelation); C. De Looze, D. Hirst (2008), Detecting changes in key and range for the automatic
modelling and coding of intonation (the range in two passes, from the quartiles of a speaker).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

import numpy as np
import pandas as pd
from pydantic import Field, model_validator
from typing_extensions import override

from extract.audio import SAMPLING_RATE, AudioError, read_wave
from extract.features import NO_ROW, Report, Row
from extract.praat import PraatExtractor, PraatFeature
from featurestore.format.codec import Floats
from featurestore.format.plan import Seconds
from featurestore.shared.errors import SerError

T = TypeVar("T")
R = TypeVar("R")

FLOOR_FACTOR = 0.75
LOWEST = 27.5
"""Hz, the A of the lowest octave of a piano: semitones are counted from it."""
LEAST_VOICED = 10
"""The fewest voiced frames from which quartiles are taken."""
COLUMNS = ("pitch_floor", "pitch_ceiling")
"""Columns of the table: the F0 range of the utterance's speaker, in Hz."""


class Pitch(PraatFeature):
    """F0 (Hz, 0 where unvoiced) and voicing (1 or 0)."""

    floor: float = Field(default=75.0, gt=0)
    """The lowest F0 looked for, in Hz."""
    ceiling: float = Field(default=600.0, gt=0)
    """The highest F0 looked for, in Hz."""
    method: Literal["ac", "cc"] = "ac"
    """Autocorrelation, or cross-correlation, whose window is shorter."""
    very_accurate: bool = False
    """A window twice as long and of another shape; slower."""
    two_pass: Literal[False, True, "speaker"] = False
    """Look for F0 a second time, between 0.75 times the first quartile of F0 and ``ceiling_factor`` times the third:
    quartiles of the utterance (``true``), or of all utterances of its speaker (``speaker``; the table then has the
    range as ``pitch_floor`` and ``pitch_ceiling``). An utterance whose speaker is not known has a range of its own, and
    is flagged. The ranges of speakers are found before anything is stored; if that is interrupted, it starts anew."""
    ceiling_factor: float = Field(default=1.5, gt=1.0)
    """1.5 for calm speech, 2.5 for expressive speech."""
    unit: Literal["hz", "log", "semitones"] = "hz"
    """Of F0: Hz, the natural logarithm of that, or semitones above 27.5 Hz, as in openSMILE; 0 where unvoiced."""
    mode: Literal["time", "tier"] = "time"
    """``tier`` reproduces systems that stretch the voiced frames over the whole utterance, which loses their times;
    every frame then counts as voiced."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.floor >= self.ceiling:
            raise ValueError(f"floor is {self.floor:g} Hz, expected less than ceiling, which is {self.ceiling:g} Hz")
        return self

    @property
    @override
    def columns(self) -> tuple[str, ...]:
        return self.surveyed

    @property
    @override
    def surveyed(self) -> tuple[str, ...]:
        return COLUMNS if self.two_pass == "speaker" else ()

    @override
    def build(self) -> PitchExtractor:
        return PitchExtractor(self)


class PitchExtractor(PraatExtractor):
    """See `Pitch`."""

    feature: Pitch

    @property
    @override
    def channels(self) -> tuple[str, ...]:
        return ({"hz": "f0", "log": "log_f0", "semitones": "semitones"}[self.feature.unit], "voiced")

    @property
    def window(self) -> float:
        """The length of the analysis window, in seconds.

        >>> Pitch().build().window, Pitch(method="cc", floor=50).build().window
        (0.04, 0.04)
        """
        periods = 2.0 if self.feature.method == "cc" else 6.0 if self.feature.very_accurate else 3.0
        return periods / self.feature.floor

    def survey(
        self, table: pd.DataFrame, paths: Mapping[str, Path], known: pd.DataFrame, workers: int, report: Report
    ) -> pd.DataFrame:
        """Return the range of each utterance's speaker; NaN where the speaker is not known.

        A speaker who is in the store keeps the range there, for new utterances, too.
        """
        speakers = list(map(str, table["speaker"])) if "speaker" in table else [""] * len(table)
        ranges = _known_ranges(known)
        files: dict[str, list[Path]] = {}
        for who, name in zip(speakers, table.index, strict=True):
            files.setdefault(who, []).append(paths[name])
        new = [who for who in files if who and who not in ranges]
        found = _in_processes(self._range_of, [files[who] for who in new], workers)
        for done, (who, span) in enumerate(zip(new, found, strict=True), 1):
            ranges[who] = span
            report(done, len(new), "looking for the pitch range of each speaker")
        rows = [ranges.get(who, (np.nan, np.nan)) for who in speakers]
        return pd.DataFrame(rows, table.index, pd.Index(COLUMNS), dtype=float)

    def _range_of(self, files: Sequence[Path]) -> tuple[float, float]:
        """Return the range, floor and ceiling in Hz, of the F0 in all of the files that can be read."""
        import parselmouth

        voiced: list[Floats] = []
        for file in files:
            try:
                wave = read_wave(file)
            except AudioError:
                continue  # the extraction names it
            if self.duration(len(wave)) >= self.window:
                sound = parselmouth.Sound(wave.astype(np.float64), SAMPLING_RATE)
                voiced.append(_voiced(self._praat(sound, self.feature.floor, self.feature.ceiling)))
        return self._range(np.concatenate(voiced) if voiced else np.empty(0, np.float32))

    def _range(self, voiced: Floats) -> tuple[float, float]:
        """Return the floor and the ceiling of the second pass, given the F0 of the voiced frames of the first."""
        asked = self.feature
        if len(voiced) < LEAST_VOICED:
            return asked.floor, asked.ceiling
        low, high = np.quantile(voiced, [0.25, 0.75])
        return max(asked.floor, FLOOR_FACTOR * float(low)), min(asked.ceiling, asked.ceiling_factor * float(high))

    @override
    def remark(self, row: Row) -> str:
        own = self.feature.two_pass == "speaker" and not _has_range(row)
        return "its speaker is not known: its pitch has the range of this utterance alone" if own else ""

    @override
    def analyse(self, sound: Any, row: Row = NO_ROW) -> Floats:
        f0 = self._find(sound, row)
        if self.feature.mode == "tier":
            f0 = _stretched(f0)
        return np.stack([self._in_unit(f0), f0 > 0], axis=-1)

    def _in_unit(self, f0: Floats) -> Floats:
        unit = self.feature.unit
        if unit == "hz":
            return f0
        log = np.log(np.where(f0 > 0, f0, 1.0 if unit == "log" else LOWEST))
        return log if unit == "log" else 12 / np.log(2) * (log - np.log(LOWEST))

    def _find(self, sound: Any, row: Row) -> Floats:
        """Return F0 on the grid of times of the first pass, whatever the range in which it is looked for."""
        asked = self.feature
        if asked.two_pass == "speaker" and _has_range(row):
            floor, ceiling = (row[column] for column in COLUMNS)
            frames, start = self.place(sound.n_samples)
            times: Seconds = start + asked.hop * np.arange(frames, dtype=np.float64)
        else:
            first = self._praat(sound, asked.floor, asked.ceiling)
            floor, ceiling = self._range(_voiced(first)) if asked.two_pass else (asked.floor, asked.ceiling)
            if (floor, ceiling) == (asked.floor, asked.ceiling):
                return first.selected_array["frequency"]
            times = first.xs()
        second = self._praat(sound, floor, ceiling)
        return _at(times, second.xs(), second.selected_array["frequency"])

    def _praat(self, sound: Any, floor: float, ceiling: float) -> Any:
        asked = self.feature
        analyse = sound.to_pitch_ac if asked.method == "ac" else sound.to_pitch_cc
        return analyse(asked.hop, floor, very_accurate=asked.very_accurate, pitch_ceiling=ceiling)


def _in_processes(work: Callable[[T], R], items: Sequence[T], workers: int) -> Iterator[R]:
    """Yield ``work`` of each item, computed by so many processes: Praat blocks the other threads of its process."""
    if workers == 1 or len(items) < 2:
        yield from map(work, items)
        return
    try:
        with ProcessPoolExecutor(min(workers, len(items)), get_context("spawn")) as pool:
            yield from pool.map(work, items)
    except BrokenProcessPool:
        raise SerError(
            "a process died while looking for the speakers' ranges of F0: if memory was exhausted, use fewer "
            '--workers; a script that calls extract must do so below if __name__ == "__main__"'
        ) from None


def _voiced(pitch: Any) -> Floats:
    f0 = pitch.selected_array["frequency"]
    return f0[f0 > 0]


def _has_range(row: Row) -> bool:
    return not np.isnan(row.get(COLUMNS[0], np.nan))


def _known_ranges(known: pd.DataFrame) -> dict[str, tuple[float, float]]:
    """Return the ranges of the speakers in a table."""
    if not {"speaker", *COLUMNS} <= {*known.columns}:
        return {}
    rows = known.dropna(subset=[*COLUMNS]).drop_duplicates("speaker")
    return {who: (floor, ceiling) for who, floor, ceiling in rows[["speaker", *COLUMNS]].itertuples(index=False)}


def _at(times: Seconds, found: Seconds, f0: Floats) -> Floats:
    """Return F0 at ``times`` from the nearest of the times at which it was ``found``, both of the same hop."""
    # the grids of two passes often lie half a hop apart (in 26 of 60 random utterances), so two frames are equally near
    # to every time: rounding errors decide, then the even number, and pitch is stored so. nearest_frames of the trainer
    # takes the earlier one: the even one would bring frames of 20 ms onto a clock of 10 ms three times and once in turn
    nearest = np.rint((times - found[0]) / (found[1] - found[0] if len(found) > 1 else 1.0)).astype(int)
    return f0[nearest.clip(0, len(found) - 1)]


def _stretched(f0: Floats) -> Floats:
    """Return the voiced frames alone, stretched linearly over all frames; zeros if none is voiced."""
    voiced = f0[f0 > 0]
    if not len(voiced):
        return np.zeros_like(f0)
    return np.interp(np.linspace(0, len(voiced) - 1, len(f0)), np.arange(len(voiced)), voiced).astype(np.float32)
