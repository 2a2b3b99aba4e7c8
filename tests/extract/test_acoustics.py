import numpy as np
import parselmouth
import pytest
from pydantic import ValidationError
from transformers.audio_utils import mel_filter_bank, power_to_db

from extract.features import Feature
from extract.features.formants import Formants
from extract.features.hnr import HNR
from extract.features.intensity import Intensity
from extract.features.logmel import LogMel
from extract.features.mfcc import MFCC
from extract.features.opensmile import OpenSmile
from extract.features.pitch import Pitch
from featurestore.shared.errors import SerError
from tests.extract.samples import computed, noise


def glide(seconds, low=110.0, high=330.0):
    """A harmonic tone whose F0 rises exponentially, and its F0 as a function of time."""

    def f0(times):
        return low * (high / low) ** (np.asarray(times) / seconds)

    times = np.arange(int(16_000 * seconds)) / 16_000
    phase = 2 * np.pi * np.cumsum(f0(times)) / 16_000
    wave = sum(np.sin(k * phase) / k for k in range(1, 6))
    return (0.2 * wave).astype(np.float32), f0


def contour(wave, **settings):
    pitch = Pitch(**settings).build()
    (frames,) = computed(pitch, [wave])
    count, first = pitch.place(len(wave))
    assert frames.shape == (1, count, 2)
    return frames[0, :, 0], frames[0, :, 1], first + pitch.feature.hop * np.arange(count)


@pytest.mark.parametrize(("floor", "step"), [(75.0, 1), (50.0, 7), (60.0, 7), (100.0, 7)])
def test_the_plan_is_praats_own_grid_at_every_length(floor, step):
    pitch = Pitch(floor=floor).build()
    for samples in range(400, 19_201, 16 * step):  # 25 ms to 1.2 s, in steps of 1 ms
        count, first = pitch.place(samples)
        if samples < 3 / floor * 16_000:
            assert (count, first) == (1, pytest.approx(samples / 32_000))
            continue
        sound = parselmouth.Sound(noise(samples).astype(np.float64), 16_000)
        found = sound.to_pitch_ac(pitch.feature.hop, pitch.feature.floor, pitch_ceiling=pitch.feature.ceiling)
        assert count == found.n_frames, samples
        assert np.allclose(first + pitch.feature.hop * np.arange(count), found.xs(), atol=1e-9), samples


@pytest.mark.parametrize("floor", [50.0, 60.0, 75.0, 100.0])
def test_the_grid_is_praats_own_at_every_sample_around_whole_frames(floor):
    pitch = Pitch(floor=floor).build()
    whole = [round(16_000 * (3 / floor + frames * pitch.feature.hop)) for frames in (0, 1, 2, 7, 40)]
    for samples in (middle + shift for middle in whole for shift in range(-2, 3)):
        sound = parselmouth.Sound(noise(samples).astype(np.float64), 16_000)
        if samples * (1 / 16_000) >= 3 / floor:
            found = sound.to_pitch_ac(pitch.feature.hop, pitch.feature.floor, pitch_ceiling=pitch.feature.ceiling)
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
    assert Pitch().build().place(400) == (1, 0.0125)


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
    extractor = feature.build()
    (frames,) = computed(extractor, [wave])
    count, first = extractor.place(len(wave))
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
    (frames,) = computed(LogMel().build(), [np.zeros(4000, np.float32)])
    assert np.allclose(frames, np.log(1e-10))


@pytest.mark.parametrize("frequency", [250.0, 1000.0, 4000.0])
def test_a_sine_lights_the_band_around_its_frequency(frequency):
    wave = (0.5 * np.sin(2 * np.pi * frequency * np.arange(16_000) / 16_000)).astype(np.float32)
    (frames,) = computed(LogMel().build(), [wave])
    filters = mel_filter_bank(257, 80, 0, 8000, 16_000, "slaney", "slaney")
    band = filters[round(frequency / 8000 * 256)].argmax()
    assert (np.abs(frames[0, 3:-3].argmax(axis=1) - band) <= 1).all()


@pytest.mark.parametrize("samples", [1, 159, 160, 161, 400, 16_000])
def test_log_mel_has_the_frames_that_were_placed(samples):
    (frames,) = computed(LogMel().build(), [noise(samples)])
    assert frames.shape == (1, LogMel().build().place(samples)[0], 80)


def test_a_window_longer_than_the_transform_is_refused():
    with pytest.raises(ValidationError):
        LogMel(n_fft=512, window=600)


def test_a_floor_above_the_ceiling_is_refused():
    with pytest.raises(ValidationError):
        Pitch(floor=700, ceiling=600)


SETTINGS = [
    Pitch(method="cc"),
    Pitch(very_accurate=True),
    Pitch(method="cc", very_accurate=True),
    Pitch(two_pass=True),
    Pitch(mode="tier"),
    Intensity(),
    Intensity(floor=100),
    HNR(),
    HNR(floor=60),
    Formants(),
    Formants(ceiling=5000),
    MFCC(),
    LogMel(padding="reflect"),
    OpenSmile(),
    OpenSmile(level="functionals"),
]


@pytest.mark.parametrize("feature", SETTINGS, ids=repr)
def test_every_feature_has_the_frames_that_were_placed(feature):
    """At any length, in steps of some milliseconds."""
    extractor = feature.build()
    spec = extractor.spec()
    for samples in range(400, 9_600, 16 * 7 + 1):
        if samples < 960 and feature.name == "opensmile":
            continue
        count, first = extractor.place(samples)
        (one,) = extractor.compute([noise(samples)])
        assert one.frames.shape == (1, count, spec.dim)
        assert np.isfinite(one.frames).all()
        assert 0 <= first <= samples / 16_000
        assert first + (count - 1) * spec.hop <= samples / 16_000 + 1e-9 or feature.name == "opensmile"


def praats(feature, wave):
    """Return Praat's own analysis, made by its own commands."""
    sound = parselmouth.Sound(wave.astype(np.float64), 16_000)
    if isinstance(feature, Pitch):
        return sound.to_pitch_cc(feature.hop, feature.floor, pitch_ceiling=feature.ceiling)
    if isinstance(feature, Intensity):
        return sound.to_intensity(feature.floor, feature.hop)
    if isinstance(feature, HNR):
        return sound.to_harmonicity_cc(feature.hop, feature.floor)
    return sound.to_formant_burg(feature.hop, feature.looked_for, feature.ceiling, feature.window_length)


@pytest.mark.parametrize(
    "feature", [Pitch(method="cc"), Intensity(), HNR(), Formants(), Formants(ceiling=5000)], ids=repr
)
def test_times_are_praats_own_at_every_length(feature):
    extractor = feature.build()
    for samples in range(1600, 16_001, 16 * 5):
        count, first = extractor.place(samples)
        found = praats(feature, noise(samples))
        assert count == len(found.xs()), samples
        assert np.allclose(first + feature.hop * np.arange(count), found.xs(), atol=1e-9), samples


@pytest.mark.parametrize(
    ("ceiling", "hop", "samples"), [(5000, 0.00625, 900), (5000, 0.00625, 2100), (5512.5, 0.01, 2880)]
)
def test_formants_of_lengths_that_praat_rounds_up(ceiling, hop, samples):
    feature = Formants(ceiling=ceiling, hop=hop)
    assert feature.build().place(samples)[0] == len(praats(feature, noise(samples)).xs())


@pytest.mark.parametrize("feature", [Pitch(), Intensity(), HNR(), Formants()], ids=repr)
def test_what_is_shorter_than_the_window_is_zero_and_flagged(feature):
    extractor = feature.build()
    (one,) = extractor.compute([noise(400)])
    assert not one.frames.any()
    assert one.flag.startswith(f"shorter than the window of {feature.name}")
    assert extractor.place(400) == (1, 0.0125)


@pytest.mark.parametrize("settings", [{"method": "cc"}, {"very_accurate": True}, {"two_pass": True}], ids=repr)
@pytest.mark.parametrize("seconds", [0.7, 2.3])
def test_every_method_finds_a_glide(seconds, settings):
    wave, f0 = glide(seconds, low=180, high=260)
    found, voiced, times = contour(wave, **settings)
    assert voiced.mean() > 0.9
    semitones = 12 * np.abs(np.log2(found[voiced > 0] / f0(times[voiced > 0])))
    assert np.median(semitones) < 0.05


def test_pitch_in_other_units_is_the_same_pitch():
    wave = np.concatenate([glide(0.7, low=180, high=260)[0], np.zeros(8000, np.float32)])
    hertz, voiced, _ = contour(wave)
    log, semitones = (contour(wave, unit=unit)[0] for unit in ("log", "semitones"))
    assert (voiced > 0).any()
    assert (voiced == 0).any()
    assert np.allclose(log, np.log(hertz, where=voiced > 0, out=np.zeros_like(hertz)), atol=1e-5)
    assert np.allclose(semitones[voiced > 0], 12 * np.log2(hertz[voiced > 0] / 27.5), atol=1e-4)
    assert not semitones[voiced == 0].any()
    assert Pitch(unit="semitones").build().spec().channels == ("semitones", "voiced")


def test_two_passes_narrow_the_range():
    """A subharmonic at the end lies below the range that most of the utterance has."""
    wave, _ = glide(2.0, low=300, high=330)
    creak, _ = glide(0.3, low=95, high=95)
    sound = np.concatenate([wave, creak])
    once, _, times = contour(sound)
    twice, voiced, _ = contour(sound, two_pass=True)
    end = times > 2.1
    assert np.median(once[end][once[end] > 0]) == pytest.approx(95, rel=0.02)
    assert not (voiced[end] > 0).any() or twice[end][voiced[end] > 0].min() > 200


def test_the_tier_is_stretched_as_in_systems_that_lose_the_time():
    """A tone, twice as long a silence, a tone: the end of the first tone lands in the middle of the silence."""
    low, _ = glide(1.0, low=150, high=200)
    high, _ = glide(1.0, low=300, high=400)
    wave = np.concatenate([low, np.zeros(32_000, np.float32), high])
    found, voiced, times = contour(wave, mode="tier")
    assert voiced.all()
    assert 1.9 < times[np.argmax(found > 250)] < 2.1
    f0, really, _ = contour(wave)
    heard = f0[really > 0]
    assert found[0] == pytest.approx(heard[0])
    assert found[-1] == pytest.approx(heard[-1])


def test_intensity_follows_the_level():
    wave, _ = glide(1.0)
    loud, soft = (computed(Intensity().build(), [level * wave])[0][0, 10:-10, 0] for level in (1.0, 0.1))
    assert np.allclose(loud - soft, 20, atol=0.1)


def test_hnr_falls_with_noise():
    wave, _ = glide(1.0)
    clean, noisy = (computed(HNR().build(), [wave + level * noise(len(wave))])[0][0] for level in (0.0, 0.3))
    assert clean[clean[:, 1] > 0, 0].mean() > noisy[noisy[:, 1] > 0, 0].mean() + 10
    assert not clean[clean[:, 1] == 0, 0].any()


def test_formants_of_a_synthetic_vowel():
    """Pulses that fall off as those of a voice, through three resonances."""
    pulses = 0.97 ** (np.arange(16_000) % 133)
    for frequency, bandwidth in ((700, 80), (1200, 90), (2600, 120)):
        radius, angle = np.exp(-np.pi * bandwidth / 16_000), 2 * np.pi * frequency / 16_000
        out = np.zeros_like(pulses)
        for i in range(len(pulses)):
            out[i] = pulses[i] + 2 * radius * np.cos(angle) * out[i - 1] - radius**2 * out[i - 2]
        pulses = out
    wave = (0.1 * pulses / np.abs(pulses).max()).astype(np.float32)
    (frames,) = computed(Formants(looked_for=3.0).build(), [wave])
    found = np.median(frames[0, 5:-5], axis=0).reshape(3, 3)
    assert found[:, 0] == pytest.approx([700, 1200, 2600], rel=0.06)
    assert found[:, 2].tolist() == [1, 1, 1]


@pytest.mark.parametrize(("reference", "top_db"), [("one", None), ("one", 80.0), ("max", 80.0)])
def test_decibels_are_those_of_the_library(reference, top_db):
    wave = noise(8000) * np.linspace(0, 1, 8000, dtype=np.float32) ** 6
    feature = LogMel(n_mels=64, n_fft=1024, unit="db", reference=reference, top_db=top_db).build()
    (frames,) = computed(feature, [wave])
    (natural,) = computed(LogMel(n_mels=64, n_fft=1024).build(), [wave])
    power = np.exp(natural[0].astype(np.float64))
    expected = power_to_db(power, power.max() if reference == "max" else 1.0, 1e-10, top_db)
    assert np.allclose(frames[0], expected, atol=1e-3)


def test_decibels_are_asked_for_by_name():
    with pytest.raises(ValidationError, match="expected unit=db"):
        LogMel(top_db=80)


def test_too_many_bands_are_refused():
    with pytest.raises(SerError, match=r"the mel bands \[0, 3, 6, 13\] of 128 hold no bin"):
        LogMel(n_mels=128, n_fft=400, scale="htk").build().spec()


def test_mfcc_is_an_orthonormal_transform_of_log_mel():
    wave = noise(8000)
    (mel,), (every,) = computed(LogMel(n_mels=24).build(), [wave]), computed(MFCC(n_mels=24, n_mfcc=24).build(), [wave])
    assert np.allclose(np.linalg.norm(every, axis=2), np.linalg.norm(mel, axis=2), rtol=1e-4)
    assert np.allclose(every[..., 0], mel.sum(axis=2) / np.sqrt(24), rtol=1e-4)
    (few,) = computed(MFCC(n_mels=24, n_mfcc=5).build(), [wave])
    assert np.allclose(few, every[..., :5], atol=1e-4)
    with pytest.raises(ValidationError, match="n_mfcc is 30, expected at most n_mels, which is 24"):
        MFCC(n_mels=24, n_mfcc=30)


@pytest.mark.parametrize("features", ["eGeMAPSv02", "ComParE_2016"])
def test_opensmile_descriptors_lie_at_their_times(features):
    """A tone in the middle: loudness and F0 are symmetrical around it, though their windows are 20 and 60 ms long."""
    tone, _ = glide(0.8, low=150, high=150)
    wave = np.concatenate([np.zeros(9_600), tone, np.zeros(9_600)]).astype(np.float32) + noise(32_000, level=5e-4)
    feature = OpenSmile(features=features).build()
    (frames,) = computed(feature, [wave])
    count, first = feature.place(len(wave))
    times, channels = first + 0.01 * np.arange(count), feature.channels
    for name in ("Loudness_sma3", "F0semitoneFrom27.5Hz_sma3nz", "pcm_RMSenergy_sma", "F0final_sma"):
        if name in channels:
            values = frames[0, :, channels.index(name)]
            heard = times[values > values.max() / 2]
            assert (heard[0] + heard[-1]) / 2 == pytest.approx(1.0, abs=0.006), name
    assert frames[0, :, -1].tolist() == [0, 0] + [1] * (count - 2)
    late = [i for i, name in enumerate(channels) if name.startswith("F0")]
    assert not frames[0, :2, late].any()


def test_opensmile_deltas_are_joined_by_time():
    feature = OpenSmile(features="ComParE_2016").build()
    assert feature.spec().dim == 65 + 65 + 1
    (frames,) = computed(feature, [noise(32_000) * np.linspace(0, 1, 32_000, dtype=np.float32)])
    energy, slope = (frames[0, :, feature.channels.index(f"pcm_RMSenergy_sma{end}")] for end in ("", "_de"))
    padded = np.pad(energy, 2, "edge")
    expected = (padded[3:-1] - padded[1:-3] + 2 * (padded[4:] - padded[:-4])) / 10
    assert np.allclose(slope[3:-3], expected[3:-3], atol=1e-5)


def test_opensmile_clips_and_says_so():
    (one,) = OpenSmile().build().compute([noise(8000, level=2.0)])
    assert one.flag == "clipped to full scale for openSMILE"
    with pytest.raises(ValueError, match="50 ms is shorter than openSMILE's window of 60 ms"):
        OpenSmile().build().place(800)


def test_every_feature_is_tested_here():
    own = {type(feature).__module__.rpartition(".")[2] for feature in SETTINGS}
    assert own | {"encoder", "text", "words"} == set(Feature.names())
