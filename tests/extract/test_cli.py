"""ser-extract as a user runs it."""

import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import soundfile

import featurestore
from tests.extract.samples import noise, ser_extract

ENCODER = ["--encoder", "hubert-tiny-untrained"]


def shards(store):
    if store.is_file():
        return store.read_bytes()
    return {str(f.relative_to(store)): f.read_bytes() for f in sorted(store.rglob("*")) if f.is_file()}


def test_a_dataset_becomes_a_store(labelled, tmp_path):
    store = tmp_path / "s.zarr"
    asked = ("--dataset", "csv", "--root", labelled, *ENCODER, "--features", "pitch,logmel", "--store", store)
    result = ser_extract.anew(*asked)
    assert result.returncode == 0, result.stderr
    opened = featurestore.open(store)
    assert {name: spec.layers for name, spec in opened.features.items()} == {
        "hubert-tiny-untrained": 5,
        "logmel": 1,
        "pitch": 1,
    }
    assert opened.names() == ["000", "001", "002", "003"]
    for name in opened.names():
        seconds = opened.utterances.loc[name, "duration"]
        for feature, part in opened.parts.items():
            assert np.isfinite(opened[name][feature]).all()
            assert part.times(name)[-1] == pytest.approx(seconds, abs=0.05)
    again = ser_extract("--dataset", "csv", "--root", labelled, "--features", "pitch", "--store", store)
    assert again.returncode == 0


def test_a_feature_is_added_to_a_store(labelled, tmp_path):
    store = tmp_path / "s.zarr"
    base = ["--dataset", "csv", "--root", labelled, "--store", store]
    assert ser_extract(*base, "--features", "pitch").returncode == 0
    before = shards(store)
    assert ser_extract(*base, *ENCODER).returncode == 0
    after = shards(store)
    assert {path: after[path] for path in before} == before
    assert set(featurestore.open(store).features) == {"pitch", "hubert-tiny-untrained"}


def test_what_cannot_be_used_is_named_and_the_rest_extracted(labelled, tmp_path):
    bad = noise(16_000)
    bad[5] = np.nan
    soundfile.write(labelled.parent / "nan.wav", bad, 16_000, "FLOAT")
    soundfile.write(labelled.parent / "short.wav", noise(160), 16_000)
    (labelled.parent / "empty.wav").touch()
    soundfile.write(labelled.parent / "cut.wav", noise(9000), 16_000)
    os.truncate(labelled.parent / "cut.wav", 5000)
    soundfile.write(labelled.parent / "stereo.wav", np.stack([noise(44_100, 1), noise(44_100, 2)], axis=1), 44_100)
    with labelled.open("a") as file:
        file.writelines(f"{n},{n}.wav,3,3,train,s0,\n" for n in ("nan", "short", "empty", "cut", "stereo", "gone"))
        file.write("loud,clip0.wav,9,3,train,s0,\ntwice,clip0.wav,3,3,train,s0,\ntwice,clip1.wav,3,3,train,s0,\n")
    store = tmp_path / "s.zarr"
    result = ser_extract("--dataset", "csv", "--root", labelled, *ENCODER, "--features", "pitch", "--store", store)
    assert result.returncode == 3
    opened = featurestore.open(store)
    assert sorted(opened.left_out) == ["cut", "empty", "gone", "loud", "twice"]
    for name, reason in opened.left_out.items():
        assert f"left out: {name}: {reason}" in result.stdout.splitlines()
    nan, short = "1 of 16000 samples are NaN or infinite", "10 ms is shorter than one frame of {}"
    encoder = "hubert-tiny-untrained"
    for feature, failed in (("pitch", {"nan": nan}), (encoder, {"nan": nan, "short": short.format(encoder)})):
        assert opened.feature(feature).failed == failed
        for name, reason in failed.items():
            assert f"failed: {name} ({feature}): {reason}" in result.stdout.splitlines()
    assert opened.names([encoder]) == ["000", "001", "002", "003", "stereo"]
    assert opened.names(["pitch"]) == ["000", "001", "002", "003", "short", "stereo"]
    assert "5 left out, 3 failed" in result.stdout


def test_every_kind_of_bad_audio_is_named_once(labelled, tmp_path):
    folder = labelled.parent
    (folder / "text.wav").write_text("this is not audio")
    (folder / "zero.wav").touch()
    soundfile.write(folder / "none.wav", np.zeros(0), 16_000)
    soundfile.write(folder / "cut.wav", noise(9000), 16_000)
    soundfile.write(folder / "cutflac.flac", noise(50_000), 16_000)
    for name, size in (("cut.wav", 5000), ("cutflac.flac", 40_000)):
        os.truncate(folder / name, size)
    for name in ("nan", "inf"):
        bad = noise(16_000)
        bad[5] = float(name)
        soundfile.write(folder / f"{name}.wav", bad, 16_000, "FLOAT")
    named = ["text", "zero", "none", "cut", "nan", "inf", "gone", "cutflac"]
    with labelled.open("a") as file:
        file.writelines(f"{n},{n}.{'flac' if n == 'cutflac' else 'wav'},3,3,train,s0,\n" for n in named)
    store = tmp_path / "s.zarr"
    result = ser_extract("--dataset", "csv", "--root", labelled, "--features", "pitch", "--store", store)
    assert result.returncode == 3
    assert result.stderr == ""
    *lines, speed, _ = result.stdout.splitlines()
    assert re.fullmatch(r"speed: [\d.e+]+ h of audio an hour; .*\d %", speed)
    lines = [line.split(": ")[1].removesuffix(" (pitch)") for line in lines]
    assert sorted(lines) == sorted(named)
    opened = featurestore.open(store)
    assert sorted([*opened.left_out, *opened.feature("pitch").failed]) == sorted(named)
    assert opened.names(["pitch"]) == ["000", "001", "002", "003"]


@pytest.mark.parametrize("row", ["", "u,clip0.wav,9,3,train,s0,\n", "u,clip0.wav,3,3,trian,s0,\n"])
def test_labels_without_a_row_that_can_be_used_are_one_line(labelled, tmp_path, row):
    labelled.write_text(labelled.read_text().splitlines()[0] + "\n" + row)
    arguments = ("--dataset", "csv", "--root", labelled, "--features", "pitch", "--store", tmp_path / "s.zarr")
    result = ser_extract(*arguments)
    assert result.returncode == 1
    assert len(result.stderr.strip().splitlines()) == 1, result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dataset", "iemocup", *ENCODER], "no dataset 'iemocup'; did you mean 'iemocap'?"),
        (["--dataset", "emodb", *ENCODER], "dataset emodb needs --root DIR: a folder with wav/*.wav"),
        (["--dataset", "csv", "--encoder", "wavlm-lrge"], "no encoder 'wavlm-lrge'; did you mean 'wavlm-large'?"),
        (["--dataset", "csv", *ENCODER, "trim=true"], "unknown key 'trim'; did you mean 'encoder.trim'?"),
        (["--dataset", "csv", *ENCODER, "--features", "pich"], "unknown key 'pich'; did you mean 'pitch'?"),
        (["--dataset", "csv", "--root", "{labels}"], "nothing to extract: give --encoder NAME|DIR"),
        ([*ENCODER], "dataset is missing"),
        (["--config", "nowhere.yaml"], "the config file nowhere.yaml does not exist"),
    ],
)
def test_errors_are_one_line(labelled, arguments, message):
    result = ser_extract(*(argument.format(labels=labelled) for argument in arguments))
    assert result.returncode == 1
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_a_checkpoint_that_cannot_be_had_offline_is_one_line(labelled):
    environment = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(labelled.parent / "cache")}
    result = ser_extract.anew("--dataset", "csv", "--root", labelled, "--encoder", "hubert-base", env=environment)
    assert result.returncode == 1
    assert "the checkpoint facebook/hubert-base-ls960 cannot be loaded" in result.stderr
    assert "hf download facebook/hubert-base-ls960" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_a_store_with_other_settings_is_refused(labelled, tmp_path):
    base = ["--dataset", "csv", "--root", labelled, "--features", "pitch", "--store", tmp_path / "s.zarr"]
    assert ser_extract(*base).returncode == 0
    result = ser_extract(*base, "pitch.floor=60")
    assert result.returncode == 1
    assert "has the feature pitch with other settings: floor: 75.0 in the store, 60.0 asked for" in result.stderr


@pytest.mark.parametrize("form", [".zarr", ".h5"])
def test_killed_half_way_it_resumes_to_the_same_bytes(labelled, tmp_path, form):
    reference, store = tmp_path / f"reference{form}", tmp_path / f"s{form}"
    growing = store if form == ".zarr" else tmp_path / ".s.h5.draft"
    with labelled.open("a") as file:
        file.writelines(f"more{i},clip{i % 4}.wav,3,3,train,s0,\n" for i in range(12))
    base = ["--dataset", "csv", "--root", labelled, *ENCODER, "--features", "pitch", "shard_seconds=2"]
    assert ser_extract(*base, "--store", reference).returncode == 0
    running = ser_extract.start(*base, "--store", store)
    while len(list(growing.glob("features/*/shards/*.json"))) < 5 and not running.ended():
        time.sleep(0.002)
    running.send(signal.SIGKILL)
    assert running.wait().returncode == -signal.SIGKILL
    assert not list(growing.glob("features/*/manifest.json"))
    there = re.search(rf"s{form} has ([0-9.]+) [kM]?B of it", ser_extract(*base, "--store", store, "--plan").stdout)
    assert there is not None
    assert float(there[1]) > 0
    assert ser_extract(*base, "--store", store).returncode == 0
    assert shards(store) == shards(reference)


def test_help_is_instant():
    result = ser_extract.anew("--help")
    assert result.returncode == 0
    assert "--encoder" in result.stdout
    code = "import sys, extract.cli; assert not {'torch', 'transformers', 'pandas', 'parselmouth'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_can_be_set_is_listed():
    result = ser_extract("--list")
    assert result.returncode == 0, result.stderr
    assert re.search(r"^check_disk +true +Refuse to start", result.stdout, re.MULTILINE)
    assert re.search(r"^dataset +required +audformat \| .* ravdess$", result.stdout, re.MULTILINE)
    result = ser_extract("--list", "encoder", "dataset.csv", "pitch.floor")
    assert {"wavlm-large,", "hubert-tiny-untrained"} <= set(result.stdout.split())
    assert "roberta" not in result.stdout
    assert "\ndataset.ranges.V: [number, number]; default [1.0, 5.0]\n    Valence.\n" in result.stdout
    assert result.stdout.endswith("pitch.floor: number, > 0; default 75\n    The lowest F0 looked for, in Hz.\n")
    result = ser_extract("--list", "encodr")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == "ser-extract: nothing is called 'encodr'; did you mean 'encoder'?\n"


def test_a_full_disk_loses_nothing(labelled, tmp_path):
    """A limit on the size of files stands for the disk: the error is said, and the command can be given again."""
    store = tmp_path / "s.zarr"
    base = ["--dataset", "csv", "--root", labelled, "--features", "logmel", "--store", store]
    result = ser_extract(*base, FSIZE=32_000)
    assert result.returncode == 1
    said = result.stderr.strip().splitlines()
    assert ser_extract(*base).returncode == 0
    reference = tmp_path / "reference.zarr"
    assert ser_extract(*base[:-1], reference).returncode == 0
    assert shards(store) == shards(reference)
    assert len(said) == 1, said


def test_the_selftest_proves_that_batches_change_nothing():
    result = ser_extract("--selftest", *ENCODER)
    assert result.returncode == 0, result.stderr
    rows = [line.split() for line in result.stdout.splitlines() if line.strip()[:1].isdigit()]
    assert [row[0] for row in rows][:3] == ["0.025", "0.05", "0.1"]
    assert all(float(row[2]) <= 5e-6 for row in rows)
    assert {row[-1] for row in rows} == {"yes"}
    assert result.stdout.strip().splitlines()[-1].startswith("passed: ")


def test_the_selftest_of_half_precision_compares_with_float32():
    result = ser_extract("--selftest", *ENCODER, "encoder.precision=bfloat16")
    assert result.returncode == 0, result.stderr
    rows = [line.split() for line in result.stdout.splitlines() if line.strip()[:1].isdigit()]
    assert all(1e-4 < float(row[2]) <= 2.5e-2 for row in rows)


def test_the_selftest_needs_an_encoder():
    result = ser_extract("--selftest")
    assert result.returncode == 1
    assert "encoder is missing" in result.stderr
