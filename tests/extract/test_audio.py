import numpy as np
import pytest
import soundfile

from extract.audio import SAMPLING_RATE, AudioError, count_samples, read_wave
from tests.extract.samples import noise


def tone(rate, seconds=0.5, frequency=440.0):
    return 0.5 * np.sin(2 * np.pi * frequency * np.arange(int(rate * seconds)) / rate)


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 22_050, 44_100, 48_000, 192_000])
@pytest.mark.parametrize("channels", [1, 2, 8])
def test_any_rate_and_number_of_channels(tmp_path, rate, channels):
    file = tmp_path / "tone.wav"
    soundfile.write(file, np.repeat(tone(rate)[:, None], channels, axis=1), rate)
    wave = read_wave(file)
    assert wave.dtype == np.float32
    assert len(wave) == count_samples(file) == pytest.approx(SAMPLING_RATE // 2, abs=1)
    inner = wave[1000:-1000]
    assert np.abs(inner - tone(SAMPLING_RATE)[1000 : len(wave) - 1000]).max() < 2e-3


@pytest.mark.parametrize(
    ("suffix", "subtype"),
    [
        ("wav", "PCM_U8"),
        ("wav", "PCM_16"),
        ("wav", "PCM_24"),
        ("wav", "FLOAT"),
        ("flac", "PCM_16"),
        ("ogg", "VORBIS"),
        ("mp3", None),
    ],
)
def test_any_format(tmp_path, suffix, subtype):
    file = tmp_path / f"tone.{suffix}"
    soundfile.write(file, tone(16_000), 16_000, subtype)
    wave = read_wave(file)
    assert len(wave) == count_samples(file) == 8000
    assert np.abs(np.fft.rfft(wave)).argmax() == 220  # 440 Hz in bins of 2 Hz
    assert np.sqrt(np.mean(wave[1000:-1000] ** 2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.02)


def test_stereo_is_the_mean_of_its_channels(tmp_path):
    left, right = noise(1000, 1), noise(1000, 2)
    soundfile.write(tmp_path / "a.wav", np.stack([left, right], axis=1), 16_000, "FLOAT")
    assert np.allclose(read_wave(tmp_path / "a.wav"), (left + right) / 2, atol=1e-7)


@pytest.mark.parametrize("samples", [2, 5, 441, 12_345])
def test_short_files_have_the_length_that_was_counted(tmp_path, samples):
    soundfile.write(tmp_path / "a.wav", noise(samples), 44_100)
    assert len(read_wave(tmp_path / "a.wav")) == count_samples(tmp_path / "a.wav")


def broken(folder, kind):
    file = folder / "a.wav"
    if kind == "empty":
        file.touch()
    elif kind == "no samples":
        soundfile.write(file, np.zeros(0), 16_000)
    elif kind == "no audio":
        file.write_text("this is not audio")
    elif kind == "truncated":
        soundfile.write(file, noise(5000), 16_000)
        file.write_bytes(file.read_bytes()[:4000])
    elif kind == "truncated flac":
        file = folder / "a.flac"
        soundfile.write(file, noise(50_000), 16_000)
        file.write_bytes(file.read_bytes()[:30_000])
    elif kind in ("nan", "inf"):
        wave = noise(5000)
        wave[17] = float(kind)
        soundfile.write(file, wave, 16_000, "FLOAT")
    return file


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("missing", "no audio file"),
        ("empty", "empty"),
        ("no samples", "holds no samples"),
        ("no audio", "cannot be read"),
        ("truncated", "truncated: its header says 10000 bytes, it holds 3956"),
        ("truncated flac", "truncated|cannot be decoded"),
        ("nan", "1 of 5000 samples are NaN or infinite"),
        ("inf", "1 of 5000 samples are NaN or infinite"),
    ],
)
def test_broken_files_have_a_reason(tmp_path, kind, reason):
    file = broken(tmp_path, kind)
    with pytest.raises(AudioError, match=reason):
        count_samples(file), read_wave(file)


@pytest.mark.parametrize("suffix", ["wav", "aiff", "au", "w64", "rf64", "caf", "flac", "mp3", "ogg"])
def test_a_file_that_was_cut_is_never_read_short(tmp_path, suffix):
    file = tmp_path / f"a.{suffix}"
    soundfile.write(file, noise(50_000), 16_000)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(AudioError, match=r"truncated|cannot be (read|decoded)"):
        count_samples(file), read_wave(file)


def test_a_folder_is_no_audio(tmp_path):
    with pytest.raises(AudioError):
        count_samples(tmp_path)
