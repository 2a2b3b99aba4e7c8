"""Speech without a recording: Praat's synthesizer (espeak) speaks, and Praat's PSOLA bends the pitch."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from extract.audio import SAMPLING_RATE, Wave
from featurestore.shared.config import Config

LANGUAGE = "English (Great Britain)"
VOICES = ("Female1", "Female2", "Female3", "Female4", "Male1", "Male2", "Male3", "Male4", "Male5")
PAUSE = 0.01
PITCH_STEP, PITCH_FLOOR, PITCH_CEILING = 0.01, 60.0, 600.0


class Manner(Config):
    """How a sentence is spoken."""

    pitch: float = Field(default=1.0, ge=0.5, le=2.0)
    """Level of the pitch, as a factor of the voice's own."""
    pitch_range: float = Field(default=1.0, ge=0.0, le=2.0)
    """Range of the pitch, as a factor of the voice's own."""
    rise: float = 0.0
    """By how many semitones the pitch rises from beginning to end, added to its melody."""
    words_per_minute: int = Field(default=175, ge=80, le=450)
    """Rate of speech."""
    brightness: float = Field(default=0.0, ge=-1.0, lt=1.0)
    """Tilt of the spectrum: positive values raise high frequencies, negative ones lower them."""
    breath: float = Field(default=0.0, ge=0.0)
    """Noise with the envelope of the voice, as a share of its amplitude."""
    level: float = Field(default=-23.0, le=0.0)
    """Root mean square, in dB below full scale; loud peaks are limited."""


def speak(text: str, voice: str = VOICES[0], manner: Manner | None = None, seed: int = 0) -> Wave:
    """Return ``text`` spoken by one of `VOICES`, at 16 kHz.

    The synthesizer has a state: only the same calls in the same order in a fresh process give the same samples.

    Args:
        text: in English.
        voice: who speaks.
        manner: how.
        seed: of the breath's noise.

    >>> speak("Hello", "Male1").dtype
    dtype('float32')
    """
    from parselmouth.praat import call

    manner = manner or Manner()
    synthesizer = call("Create SpeechSynthesizer", LANGUAGE, voice)
    settings = (PAUSE, manner.pitch, manner.pitch_range, manner.words_per_minute, "IPA")
    call(synthesizer, "Speech output settings...", SAMPLING_RATE, *settings)
    (sound,) = call(synthesizer, "To Sound", text, "no")
    if manner.rise:
        sound = _bend(sound, manner.rise)
    wave = _tilt(sound.values[0], manner.brightness)
    noise = np.random.default_rng(seed).normal(size=len(wave))
    wave = wave + manner.breath * noise * np.abs(wave)
    gain = 10 ** (manner.level / 20) / max(float(np.sqrt(np.mean(wave**2))), 1e-9)
    return np.tanh(gain * wave).astype(np.float32)


def _bend(sound, rise: float):  # type: ignore[no-untyped-def]
    """Return ``sound`` with a pitch that rises by ``rise`` semitones over its length, by PSOLA."""
    from parselmouth.praat import call

    manipulation = call(sound, "To Manipulation", PITCH_STEP, PITCH_FLOOR, PITCH_CEILING)
    contour = call(manipulation, "Extract pitch tier")
    call(contour, "Formula", f"self * 2 ^ ({rise} / 12 * ((x - xmin) / (xmax - xmin) - 0.5))")
    call([manipulation, contour], "Replace pitch tier")
    return call(manipulation, "Get resynthesis (overlap-add)")


def _tilt(wave: np.ndarray, brightness: float) -> np.ndarray:
    """Return the wave after a first-order filter with its zero at ``brightness`` (raises highs above zero)."""
    return wave - brightness * np.concatenate([[0.0], wave[:-1]])
