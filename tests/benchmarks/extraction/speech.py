"""Speech of realistic lengths, said by Praat."""

from __future__ import annotations

from itertools import cycle

import numpy as np

from extract.audio import SAMPLING_RATE, Wave
from extract.datasets.demo import SENTENCES
from extract.speech import VOICES, speak

MEDIAN, SPREAD, SHORTEST, LONGEST = 3.6, 0.6, 0.6, 30.0
"""Of the lengths in seconds: a log-normal distribution near that of IEMOCAP's turns."""


def speech(count: int) -> list[Wave]:
    """Return so many utterances, each of one voice, in random order of length."""
    seconds = np.random.default_rng(0).lognormal(np.log(MEDIAN), SPREAD, count).clip(SHORTEST, LONGEST)
    spoken, sentences = {voice: np.zeros(0, np.float32) for voice in VOICES}, cycle(SENTENCES)
    found = []
    for number, length in enumerate(np.rint(seconds * SAMPLING_RATE).astype(int)):
        voice = VOICES[number % len(VOICES)]
        while len(spoken[voice]) < length:
            spoken[voice] = np.concatenate([spoken[voice], speak(next(sentences), voice)])
        found.append(spoken[voice][:length])
        spoken[voice] = spoken[voice][length:]
    return found
