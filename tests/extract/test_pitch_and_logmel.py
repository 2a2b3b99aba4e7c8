import numpy as np
import parselmouth
import pytest
from pydantic import ValidationError
from transformers.audio_utils import mel_filter_bank

from extract.features.logmel import LogMel
from extract.features.pitch import Pitch
from tests.extract.samples import noise


def glide(seconds, low=110.0, high=330.0):
    """A harmonic tone whose F0 rises exponentially, and its F0 as a function of time."""

    def f0(times):
        return low * (high / low) ** (np.asarray(times) / seconds)

    times = np.arange(int(16_000 * seconds)) / 16_000
    phase = 2 * np.pi * np.cumsum(f0(times)) / 16_000
    wave = sum(np.sin(k * phase) / k for k in range(1, 6))
    return (0.2 * wave).astype(np.float32), f0


def contour(wave, **settings):
    pitch = Pitch(**settings)
    ((_, frames),) = pitch.compute([wave])
    count, first = pitch.place(len(wave))
    assert frames.shape == (1, count, 2)
    return frames[0, :, 0], frames[0, :, 1], first + pitch.hop * np.arange(count)


@pytest.mark.parametrize(("floor", "step"), [(75.0, 1), (50.0, 7), (60.0, 7), (100.0, 7)])
def test_the_plan_is_praats_own_grid_at_every_length(floor, step):
    pitch = Pitch(floor=floor)
    for samples in range(400, 19_201, 16 * step):  # 25 ms to 1.2 s, in steps of 1 ms
        count, first = pitch.place(samples)
        if samples < 3 / floor * 16_000:
            assert (count, first) == (1, pytest.approx(samples / 32_000))
            continue
        sound = parselmouth.Sound(noise(samples).astype(np.float64), 16_000)
        found = sound.to_pitch_ac(pitch.hop, pitch.floor, pitch_ceiling=pitch.ceiling)
        assert count == found.n_frames, samples
        assert np.allclose(first + pitch.hop * np.arange(count), found.xs(), atol=1e-9), samples


@pytest.mark.parametrize("floor", [50.0, 60.0, 75.0, 100.0])
def test_the_grid_is_praats_own_at_every_sample_around_whole_frames(floor):
    pitch = Pitch(floor=floor)
    whole = [round(16_000 * (3 / floor + frames * pitch.hop)) for frames in (0, 1, 2, 7, 40)]
    for samples in (middle + shift for middle in whole for shift in range(-2, 3)):
        sound = parselmouth.Sound(noise(samples).astype(np.float64), 16_000)
        if samples * (1 / 16_000) >= 3 / floor:
            found = sound.to_pitch_ac(pitch.hop, pitch.floor, pitch_ceiling=pitch.ceiling)
            assert pitch.place(samples) == (found.n_frames, pytest.approx(found.x1, abs=1e-9)), samples


@pytest.mark.parametrize("seconds", [0.7, 1.0, 2.3])
def test_a_glide_has_its_pitch(seconds):
    wave, f0 = glide(seconds)
    found, voiced, times = contour(wave)
    assert voiced.mean() > 0.97
    semitones = 12 * np.abs(np.log2(found[voiced > 0] / f0(times[voiced > 0])))
    assert np.median(semitones) < 0.05


def test_silence_and_very_short_waves_are_unvoiced():
    for wave in (np.zeros(16_000, np.float32), noise(400), noise(639)):
        found, voiced, _ = contour(wave)
        assert not found.any()
        assert not voiced.any()
    assert Pitch().place(400) == (1, 0.0125)


def test_voicing_says_where_the_tone_is():
    wave, _ = glide(1.0)
    found, voiced, times = contour(np.concatenate([np.zeros(16_000, np.float32), wave, np.zeros(16_000, np.float32)]))
    inside, outside = (times > 1.05) & (times < 1.95), (times < 0.95) | (times > 2.05)
    assert voiced[inside].all()
    assert not voiced[outside].any()
    assert ((found > 0) == (voiced > 0)).all()


@pytest.mark.parametrize("settings", [{}, {"n_mels": 64, "n_fft": 1024, "window": 640, "hop_length": 320}])
def test_log_mel_is_that_of_its_definition(settings):
    feature, wave = LogMel(**settings), noise(5000)
    ((_, frames),) = feature.compute([wave])
    count, first = feature.place(len(wave))
    assert (frames.shape, first) == ((1, count, feature.n_mels), 0.0)
    window = np.zeros(feature.n_fft)
    begin = (feature.n_fft - feature.window) // 2
    window[begin : begin + feature.window] = np.hanning(feature.window + 1)[:-1]
    padded = np.pad(wave.astype(np.float64), feature.n_fft // 2)
    filters = mel_filter_bank(feature.n_fft // 2 + 1, feature.n_mels, 0, 8000, 16_000, "slaney", "slaney")
    for i in range(count):
        piece = padded[i * feature.hop_length : i * feature.hop_length + feature.n_fft] * window
        expected = np.log(np.maximum(np.abs(np.fft.rfft(piece)) ** 2 @ filters, 1e-10))
        assert np.allclose(frames[0, i], expected, atol=1e-3)


def test_log_mel_of_silence_is_its_floor():
    ((_, frames),) = LogMel().compute([np.zeros(4000, np.float32)])
    assert np.allclose(frames, np.log(1e-10))


@pytest.mark.parametrize("frequency", [250.0, 1000.0, 4000.0])
def test_a_sine_lights_the_band_around_its_frequency(frequency):
    wave = (0.5 * np.sin(2 * np.pi * frequency * np.arange(16_000) / 16_000)).astype(np.float32)
    ((_, frames),) = LogMel().compute([wave])
    filters = mel_filter_bank(257, 80, 0, 8000, 16_000, "slaney", "slaney")
    band = filters[round(frequency / 8000 * 256)].argmax()
    assert (np.abs(frames[0, 3:-3].argmax(axis=1) - band) <= 1).all()


@pytest.mark.parametrize("samples", [1, 159, 160, 161, 400, 16_000])
def test_log_mel_has_the_frames_that_were_placed(samples):
    ((_, frames),) = LogMel().compute([noise(samples)])
    assert frames.shape == (1, LogMel().place(samples)[0], 80)


def test_a_window_longer_than_the_transform_is_refused():
    with pytest.raises(ValidationError):
        LogMel(n_fft=512, window=600)


def test_a_floor_above_the_ceiling_is_refused():
    with pytest.raises(ValidationError):
        Pitch(floor=700, ceiling=600)
