"""Read audio of any sampling rate, number of channels and format of libsndfile as 16 kHz mono."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import soundfile
import soxr
from typing_extensions import override

from extract.whole import NotWholeError, check_mp3, check_ogg, flac_md5, pcm_md5

SAMPLING_RATE = 16_000
WRONG_LENGTH = re.compile(
    r"^ *(?:data|SSND|BODY|FORM|Data Size|riff|Riff size) *: (\d+) \(should be (\d+)\)",  # WAV, AIFF, AU, W64, SVX …
    re.MULTILINE,
)
TOO_SHORT = re.compile(r"File seems to be truncated|Seems to be a truncated file")
STATED_FRAMES = re.compile(r"^ *(?:Frames|(?:Rows : \d+ +)?Cols) *: (\d+) *$", re.MULTILINE)  # AVR, MPC2K, MAT
STREAM = 0x7FFFFFFF
"""A header with this length or more is that of a stream: its writer did not know the length."""
NO_LENGTH = ("IRCAM", "PAF", "PVF", "WVE", "XI")
"""Formats whose header states no length that could be compared with the size of the file."""
FLAC_BITS = {"PCM_S8": 8, "PCM_16": 16, "PCM_24": 24}
CONVERT = "(convert it to FLAC: ffmpeg -i FILE FILE.flac reads most formats)"
SILENT = 1e-4
"""A waveform with a lower peak is silent: it holds no more than the noise of its last bits."""
FULL_SCALE, CLIPPED = 0.999, 1e-3
"""Where full scale begins, and the share of samples at full scale from which on a waveform is clipped."""
OFFSET = 0.5
"""A mean of more standard deviations than this is a DC offset."""
Wave = npt.NDArray[np.float32]


class AudioError(ValueError):
    """An audio file that cannot be used; the message is the reason."""


class Recording(NamedTuple):
    """What an audio file holds.

    Attributes:
        wave: its samples at 16 kHz, the mean of its channels, 1.0 being full scale.
        remark: what is odd about it, or could not be checked; empty if nothing is.
    """

    wave: Wave
    remark: str


class _Forward(soundfile.SoundFile):  # type: ignore[misc]
    """A sound file that is read once, from beginning to end: libsndfile cannot seek in DWVW files."""

    @override
    def seekable(self) -> bool:
        return not self.subtype.startswith("DWVW") and super().seekable()


def count_samples(path: Path) -> int:
    """Return how many samples a file has at 16 kHz, from its header alone.

    Raises:
        AudioError: if it is missing, empty, unreadable or truncated.
    """
    if file_size(path) == 0:
        raise AudioError(f"the audio file is empty (0 bytes): {path}")
    header = _read_header(path)
    if header.frames == 0:
        raise AudioError(f"the audio file holds no samples: {path}")
    # libsndfile corrects a length that is too large in silence, but notes it in its log
    lie = WRONG_LENGTH.search(header.extra_info)
    if lie and int(lie[2]) < int(lie[1]) < STREAM:
        raise AudioError(f"the audio file is truncated: its header says {lie[1]} bytes, it holds {lie[2]}")
    stated = _stated_frames(path, header)
    if header.frames < stated or TOO_SHORT.search(header.extra_info):
        says = (
            f"its header says {stated} samples, it holds {header.frames}"
            if stated
            else "its header says more samples than it holds"
        )
        raise AudioError(f"the audio file is truncated: {says}")
    samples = _resampled(header.frames, header.samplerate)
    if samples == 0:
        raise AudioError(f"the audio file is shorter than one sample at 16 kHz: {path}")
    return samples


def file_size(path: Path) -> int:
    """Return the size of an audio file in bytes.

    Raises:
        AudioError: if it is missing or cannot be reached, or is not a regular file (a folder, a pipe, a device).
    """
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        raise AudioError(f"no audio file {path}") from None
    except OSError as error:
        raise AudioError(
            f"the audio file cannot be reached: {os.strerror(error.errno or 0)}: {_shorten(path)}"
        ) from None
    except ValueError as error:  # a NUL
        raise AudioError(f"the path of the audio file cannot be used: {error}: {_shorten(path)}") from None
    if not stat.S_ISREG(found.st_mode):
        kind = "a folder" if stat.S_ISDIR(found.st_mode) else "a pipe, a socket or a device"
        raise AudioError(f"{path} is {kind}, expected an audio file")
    return found.st_size


def _shorten(path: Path, most: int = 120) -> str:
    text = str(path)
    return text if len(text) <= most else f"{text[: most // 2]} … {text[-most // 2 :]}"


def _read_header(path: Path) -> Any:
    try:
        with _opened(path) as file:
            return soundfile.info(file, verbose=True)
    except soundfile.LibsndfileError as error:
        raise AudioError(f"the audio file cannot be read: {error.error_string} {CONVERT}") from None
    except OSError as error:
        raise AudioError(f"the audio file cannot be read: {os.strerror(error.errno or 0)}: {path}") from None
    except TypeError:  # of a name that ends in .raw
        raise AudioError(f"the audio file cannot be read: raw samples have no header {CONVERT}") from None


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Yield what soundfile opens: the path, or an open file if there is a file ``._x.mp3`` beside ``x.mp3``.

    macOS leaves such files on other disks, and libsndfile would read them, too.
    """
    if os.path.exists(path.with_name(f"._{path.name}")):
        with path.open("rb") as file:
            yield file
    else:
        path.open("rb").close()  # raises the reason if it cannot be opened
        yield os.fsencode(path)


def _stated_frames(path: Path, header: Any) -> int:
    """Return the number of frames that a header states; 0 if it states none."""
    if header.format == "NIST":
        with path.open("rb") as file:
            found = re.findall(rb"^sample_count -i (\d+)", file.read(1024), re.MULTILINE)
    else:
        found = STATED_FRAMES.findall(header.extra_info)
    return int(found[-1]) if found else 0


def read_wave(path: Path) -> Wave:
    """Return a file's samples at 16 kHz, the mean of its channels, 1.0 being full scale.

    Raises:
        AudioError: if it is not whole, or its samples are fewer than the header says, or not finite.
    """
    return read_recording(path).wave


def read_recording(path: Path) -> Recording:
    """Return a file's samples, and what is odd about them; see `read_wave` for the rest."""
    try:
        header = _read_header(path)
        samples = _decode(path, header.frames, "float32")
        doubt = _check_whole(path, header)
    except soundfile.LibsndfileError as error:
        raise AudioError(f"the audio file cannot be decoded: {error.error_string}") from None
    except NotWholeError as error:
        raise AudioError(f"the audio file is {error}") from None
    except OSError as error:
        raise AudioError(f"the audio file cannot be read: {os.strerror(error.errno or 0)}: {path}") from None
    if len(samples) != header.frames:
        found = f"its header says {header.frames} samples, {len(samples)} were read"
        raise AudioError(f"the audio file is truncated: {found}")
    wave = samples.mean(axis=1)
    bad = int(np.count_nonzero(~np.isfinite(wave)))
    if bad:
        raise AudioError(f"{bad} of {header.frames} samples are NaN or infinite")
    wave = _resample(wave, header.samplerate)
    return Recording(wave, "; ".join(filter(None, (describe_oddity(wave), doubt))))


def _decode(path: Path, frames: int, dtype: str) -> Any:
    """Return samples (frames, channels)."""
    with _opened(path) as opened, _Forward(opened) as file:
        return file.read(frames, dtype=dtype, always_2d=True)


def _check_whole(path: Path, header: Any) -> str:
    """Return why the length of a file cannot be checked; empty if it was. For the errors see `extract.whole`."""
    if header.format == "OGG":
        check_ogg(path.read_bytes())
    elif header.format == "MP3":
        return check_mp3(path.read_bytes())
    elif header.format == "FLAC" and any(stated := flac_md5(path)):
        samples = _decode(path, header.frames, "int32")
        if pcm_md5(samples, FLAC_BITS[header.subtype]) != stated:
            raise NotWholeError("damaged: the MD5 of its samples is not the one in its header")
    elif header.format in NO_LENGTH:
        return f"its length cannot be checked: files of the format {header.format} do not say it"
    elif (lie := WRONG_LENGTH.search(header.extra_info)) and int(lie[1]) >= STREAM:
        return "its length cannot be checked: its header is that of a stream"
    return ""


def _resample(wave: Wave, rate: int) -> Wave:
    if rate != SAMPLING_RATE:
        expected = _resampled(len(wave), rate)
        wave = soxr.resample(wave, rate, SAMPLING_RATE, quality="HQ")
        wave = np.pad(wave[:expected], (0, max(0, expected - len(wave))))
    return np.ascontiguousarray(wave, np.float32)


def describe_oddity(wave: Wave) -> str:
    """Return what is odd about a usable waveform; empty if nothing is.

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
