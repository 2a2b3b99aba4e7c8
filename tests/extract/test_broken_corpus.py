"""One dataset of everything that can be wrong with a file: nothing stops the run, all is named with its reason."""

import numpy as np
import pytest
import soundfile

import featurestore
from tests.extract.samples import noise, ser_extract

RATE = 16_000
LONG = "a_very_long_name_" * 14
GOOD = noise(8000)
FAILURES = {
    "missing": "no audio file",
    "zero_bytes": "the audio file is empty (0 bytes)",
    "no_samples": "the audio file holds no samples",
    "text": "the audio file cannot be read: Format not recognised",
    "m4a": "ffmpeg -i FILE FILE.flac",
    "truncated": "the audio file is truncated",
    "truncated_flac": "the audio file",
    "header_lies": "the audio file is truncated: its header says 999998 bytes",
    "nan": "1 of 8000 samples are NaN or infinite",
    "inf": "1 of 8000 samples are NaN or infinite",
    "one_sample": "shorter than one frame",
    "half_a_sample": "shorter than one sample at 16 kHz",
}
FLAGS = {
    "silence": "silent: its peak is below -80 dB",
    "clipped": "clipped: ",
    "offset": "it has a DC offset of 0.",
    "very_short": "shorter than the window of pitch, 40 ms",
}
FINE = ("good", "stereo", "eight_channels", "rate_192k", "mp3", "opus", "jå_日本", LONG)


def write_all(folder):
    """Write every file, and return the paths by name."""

    def write(name, wave, rate=RATE, suffix="wav", **settings):
        soundfile.write(folder / f"{name}.{suffix}", wave, rate, **settings)
        paths[name] = f"{name}.{suffix}"

    paths = {"missing": "nowhere.wav"}
    write("good", GOOD)
    write("stereo", np.stack([noise(8000, 1), noise(8000, 2)], axis=1))
    write("eight_channels", np.stack([noise(8000, seed) for seed in range(8)], axis=1))
    write("rate_192k", noise(96_000, 3), 192_000)
    write("mp3", noise(8000, 4), suffix="mp3")
    write("opus", noise(8000, 5), suffix="ogg", subtype="OPUS")
    write("jå_日本", noise(8000, 6))
    write(LONG, noise(8000, 7))
    write("copy", GOOD)
    write("silence", np.zeros(8000))
    write("clipped", np.clip(noise(8000, 8, level=2.0), -1, 1))
    write("offset", noise(8000, 9, level=0.05) + 0.3)
    write("very_short", noise(480, 10))
    write("one_sample", noise(1))
    write("half_a_sample", noise(1), 44_100)
    write("no_samples", np.zeros(0))
    for name, value in (("nan", np.nan), ("inf", np.inf)):
        wave = noise(8000, 11)
        wave[17] = value
        write(name, wave, subtype="FLOAT")
    for name, suffix, share in (("truncated", "wav", 0.5), ("truncated_flac", "flac", 0.7)):
        write(name, noise(50_000, 12), suffix=suffix)
        whole = (folder / paths[name]).read_bytes()
        (folder / paths[name]).write_bytes(whole[: int(len(whole) * share)])
    write("header_lies", noise(8000, 13))
    content = bytearray((folder / "header_lies.wav").read_bytes())
    content[40:44] = (999_998).to_bytes(4, "little")
    (folder / "header_lies.wav").write_bytes(content)
    for name, content in {
        "zero_bytes": b"",
        "text": b"this is not audio",
        "m4a": b"\0\0\0\x20ftypM4A " + bytes(500),
    }.items():
        paths[name] = f"{name}.{'m4a' if name == 'm4a' else 'wav'}"
        (folder / paths[name]).write_bytes(content)
    return paths


@pytest.fixture(scope="module")
def extracted(tmp_path_factory):
    """What ser-extract says and leaves."""
    folder = tmp_path_factory.mktemp("broken")
    rows = [f"{name},{path},3,3,train" for name, path in write_all(folder).items()]
    labels = "\n".join(["name,audio_path,V,A,split_set", *rows])
    (folder / "labels.csv").write_text(labels, encoding="utf-8")
    arguments = [
        "--dataset",
        "csv",
        "--root",
        folder,
        "--encoder",
        "hubert-tiny-untrained",
        "--features",
        "pitch,logmel",
    ]
    result = ser_extract(*arguments, "--store", folder / "s.zarr")
    return result, featurestore.open(folder / "s.zarr")


def test_it_ends_with_exit_code_3_and_a_count(extracted):
    result, store = extracted
    assert result.returncode == 3, result.stderr
    left_out, failed = len(store.left_out), sum(len(part.failed) for part in store.parts.values())
    assert f"{left_out} left out, {failed} failed, " in result.stdout.splitlines()[-1]
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("name", FAILURES)
def test_what_fails_is_named_with_its_reason(extracted, name):
    result, store = extracted
    reasons = [store.left_out.get(name, ""), *(part.failed.get(name, "") for part in store.parts.values())]
    assert any(FAILURES[name] in reason for reason in reasons), reasons
    assert any(line.split(": ")[1].split(" (")[0] == name for line in result.stdout.splitlines() if ": " in line)


@pytest.mark.parametrize("name", FINE)
def test_what_is_unusual_is_extracted(extracted, name):
    _, store = extracted
    for feature in store.features:
        assert np.isfinite(store[name][feature]).all()
        assert name not in store.feature(feature).flagged
    assert store.utterances.loc[name, "duration"] == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("name", FLAGS)
def test_what_is_odd_is_extracted_and_flagged(extracted, name):
    result, store = extracted
    flags = [part.flagged.get(name, "") for part in store.parts.values()]
    assert any(FLAGS[name] in flag for flag in flags), flags
    assert sum(line.startswith(f"flagged: {name}: ") for line in result.stdout.splitlines()) == 1
    for feature in store.features:
        assert np.isfinite(store[name][feature]).all()


def test_the_same_audio_under_two_names_is_flagged(extracted):
    result, store = extracted
    assert "flagged: copy: the same audio as good" in result.stdout
    assert store.utterances.loc["copy", "flags"] == "the same audio as good"
    assert (store.utterances["flags"] != "").sum() == 1
