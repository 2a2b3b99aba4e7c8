"""Reading audio: any rate, channels and format that libsndfile reads, as 16 kHz mono."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

SAMPLING_RATE = 16_000
WRONG_LENGTH = re.compile(
    r"^ *(?:data|SSND|Data Size|riff|Riff size) *: (\d+) \(should be (\d+)\)",  # WAV, AIFF, AU, W64, RF64
    re.MULTILINE,
)
CONVERT = "(ffmpeg -i FILE FILE.flac makes a file of most others that can be)"
SILENT = 1e-4
"""The peak from which on a waveform is more than the noise of its last bits."""
FULL_SCALE, CLIPPED = 0.999, 1e-3
"""What counts as full scale, and the share of samples there from which on a waveform is clipped."""
OFFSET = 0.5
"""The mean, in standard deviations, from which on it is an offset."""
Wave = npt.NDArray[np.float32]


class AudioError(ValueError):
    """An audio file that cannot be used; the message is the reason."""


def count_samples(path: Path) -> int:
    """Return how many samples a file has at 16 kHz, from its header alone.

    Raises:
        AudioError: if it is missing, empty, unreadable or truncated.
    """
    if not path.exists():
        raise AudioError(f"no audio file {path}")
    if path.stat().st_size == 0:
        raise AudioError(f"the audio file is empty (0 bytes): {path}")
    try:
        header = soundfile.info(path, verbose=True)
    except soundfile.LibsndfileError as error:
        raise AudioError(f"the audio file cannot be read: {error.error_string} {CONVERT}") from None
    if header.frames == 0:
        raise AudioError(f"the audio file holds no samples: {path}")
    # libsndfile corrects a length that is too large in silence, but notes it in its log
    lie = WRONG_LENGTH.search(header.extra_info)
    if lie and int(lie[2]) < int(lie[1]) < 0x7FFFFFFF:  # larger ones are streams, whose writers did not know
        raise AudioError(f"the audio file is truncated: its header says {lie[1]} bytes, it holds {lie[2]}")
    samples = _resampled(header.frames, header.samplerate)
    if samples == 0:
        raise AudioError(f"the audio file is shorter than one sample at 16 kHz: {path}")
    return samples


def read_wave(path: Path) -> Wave:
    """Return a file's samples at 16 kHz, the mean of its channels, 1.0 being full scale.

    Raises:
        AudioError: if the samples are fewer than the header says, or not finite.
    """
    try:
        frames = soundfile.info(path).frames
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise AudioError(f"the audio file cannot be decoded: {error.error_string}") from None
    if len(samples) != frames:
        raise AudioError(f"the audio file is truncated: its header says {frames} samples, {len(samples)} were read")
    wave = samples.mean(axis=1)
    bad = int(np.count_nonzero(~np.isfinite(wave)))
    if bad:
        raise AudioError(f"{bad} of {frames} samples are NaN or infinite")
    if rate != SAMPLING_RATE:
        expected = _resampled(frames, rate)
        wave = soxr.resample(wave, rate, SAMPLING_RATE, quality="HQ")
        wave = np.pad(wave[:expected], (0, max(0, expected - len(wave))))
    return np.ascontiguousarray(wave, np.float32)


def describe_oddity(wave: Wave) -> str:
    """Return what is odd about a waveform that can be used all the same; empty when nothing is.

    >>> describe_oddity(np.zeros(16_000, np.float32))
    'silent: its peak is below -80 dB of full scale'
    """
    peak, mean = float(np.abs(wave).max()), float(wave.mean())
    if peak < SILENT:
        return f"silent: its peak is below {20 * np.log10(SILENT):.0f} dB of full scale"
    oddities = []
    full = float(np.mean(np.abs(wave) >= FULL_SCALE))
    if full > CLIPPED:
        oddities.append(f"clipped: {full:.1%} of the samples are at full scale or above")
    if abs(mean) > OFFSET * float(wave.std()):
        oddities.append(f"it has a DC offset of {mean:.3g}")
    return "; ".join(oddities)


def _resampled(frames: int, rate: int) -> int:
    return (frames * SAMPLING_RATE + rate // 2) // rate
