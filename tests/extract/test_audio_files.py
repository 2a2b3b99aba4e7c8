"""The audio of every dataset is found in whatever format it is; folders need no labels."""

import os
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from extract.audio import AudioError, count_samples
from extract.audio_files import AudioFiles, suffixes
from extract.datasets import Dataset
from extract.datasets.csv import CSV
from extract.datasets.emodb import EmoDB
from extract.datasets.emotale import EmoTale
from extract.datasets.folder import Folder
from extract.datasets.iemocap import IEMOCAP
from featurestore.shared.errors import DatasetError
from tests.extract import layouts
from tests.extract.samples import EMODB_CLIPS, EMOTALE_CLIPS, noise

ENDINGS = ("flac", "ogg", "opus", "mp3", "w64", "aiff", "au", "caf", "rf64", "FLAC", "Mp3", "WAV")


def convert(root, ending):
    """Put each file of audio in another format in its place, with a sidecar of its stem and a hidden copy."""
    for file in sorted(root.rglob("*.*")):
        if file.suffix in (".wav", ".flac") and not file.name.startswith("."):
            samples, rate = soundfile.read(file)
            file.unlink()
            kind = {"opus": "OGG"}.get(ending.lower(), ending.upper())
            subtype = "OPUS" if ending == "opus" else None
            samples = samples if len(samples) else np.zeros(1)  # the empty clip: MP3 has no such
            soundfile.write(file.with_suffix(f".{ending}"), samples, rate, subtype, format=kind)
            file.with_suffix(".txt").write_text("a sidecar")
            file.with_name(f"._{file.stem}.{ending}").write_text("of macOS")
    return root


@pytest.fixture
def laid_out(request, tmp_path):
    def lay_out(name):
        if name in layouts.LAYOUTS:
            return layouts.LAYOUTS[name](tmp_path, request.getfixturevalue("spoken"))
        return request.getfixturevalue({"csv": "labelled"}.get(name, name))

    return lay_out


@pytest.mark.parametrize("ending", ["flac", "ogg", "mp3", "Wav"])
@pytest.mark.parametrize("name", [name for name in Dataset.names() if name not in ("demo", "folder")])
def test_every_dataset_may_be_converted(name, ending, laid_out):
    root = laid_out(name)
    dataset = Dataset.kind(name)(root=root)
    before = dataset.read()
    convert(root if root.is_dir() else root.parent, ending)
    after = dataset.read()
    assert after.table.index.tolist() == before.table.index.tolist()
    assert after.left_out.keys() == before.left_out.keys()
    found = 0
    for path in after.table["path"].drop([layouts.EMPTY_CLIP, "two/gone"], errors="ignore"):
        assert path.endswith(f".{ending}")
        found += count_samples(dataset.audio_folder() / path) > 1000
    assert found >= 3
    assert dataset.lacking(after) == dataset.lacking(before)


@pytest.mark.parametrize("ending", ENDINGS)
def test_any_ending_is_found(emodb, ending):
    convert(emodb, ending)
    labels = EmoDB(root=emodb).read()
    assert labels.table.index.tolist() == list(EMODB_CLIPS)
    assert all(count_samples(emodb / path) for path in labels.table["path"])


def test_every_format_that_is_written_is_found_and_read(tmp_path):
    formats = soundfile.available_formats().keys() - {"RAW", "SD2"}
    for name in sorted(formats):
        soundfile.write(tmp_path / f"{name}.{name.lower()}", noise(8000), 16_000, format=name)
    labels = Folder(root=tmp_path).read()
    assert set(labels.table.index) == formats
    assert all(count_samples(tmp_path / path) > 1000 for path in labels.table["path"])


def test_emotale_as_it_is_published(emotale):
    for file in (emotale / "wav").glob("*.flac"):
        samples, _ = soundfile.read(file)
        soundfile.write(file.with_suffix(".wav"), np.repeat(samples[:, None], 2, axis=1), 48_000, "PCM_16")
        file.unlink()
    labels = EmoTale(root=emotale).read()
    assert labels.table["path"].tolist() == [f"wav/{name}.wav" for name in EMOTALE_CLIPS]
    assert all(count_samples(emotale / path) for path in labels.table["path"])


def test_two_files_of_a_stem_are_an_error_of_that_utterance(emodb):
    clip, *others = EMODB_CLIPS
    soundfile.write(emodb / f"wav/{clip}.flac", noise(8000), 16_000)
    labels = EmoDB(root=emodb).read()
    assert labels.table.index.tolist() == others
    assert f"more than one audio file has its name: {clip}.flac, {clip}.wav in {emodb}/wav" in labels.left_out[clip]


def test_of_two_files_of_a_stem_the_one_that_is_named_counts(labelled, emotale, tmp_path, spoken):
    soundfile.write(labelled.parent / "clip0.flac", noise(8000), 16_000)
    assert CSV(root=labelled).read().table.loc["000", "path"] == "clip0.wav"
    soundfile.write(emotale / f"wav/{EMOTALE_CLIPS[0]}.wav", noise(8000), 16_000)
    assert EmoTale(root=emotale).read().table["path"].iloc[0] == f"wav/{EMOTALE_CLIPS[0]}.wav"
    root = layouts.iemocap(tmp_path / "iemocap", spoken)  # names turns, not files
    turn = "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F000"
    soundfile.write(root / f"{turn}.flac", noise(8000), 16_000)
    labels = IEMOCAP(root=root).read()
    assert "Ses01F_impro01_F000" not in labels.table.index
    assert labels.left_out["Ses01F_impro01_F000"].startswith("more than one audio file has its name: ")


@pytest.mark.parametrize("given", ["clip0", "clip0.FLAC", "clip0.m4a", "./clip0.mp3", "clip0.wav "])
def test_a_path_may_have_another_ending_or_none(labelled, given):
    labelled.write_text(f"name,audio_path\nu,{given}\n")
    dataset = CSV(root=labelled)
    assert dataset.audio_folder() / dataset.read().table.loc["u", "path"] == labelled.parent / "clip0.wav"


@pytest.mark.parametrize("given", ["clip0.2", "clip", "clip0.txt", "", " ", "."])
def test_a_path_of_another_file_finds_none(labelled, given):
    labelled.write_text(f"name,audio_path\nu,{given}\nv,clip1.wav\n")
    dataset = CSV(root=labelled)
    labels = dataset.read()
    for path in labels.table["path"].drop("v"):
        with pytest.raises(AudioError, match="no audio file"):
            count_samples(dataset.audio_folder() / path)


def test_audio_is_preferred_to_data_of_its_stem(tmp_path):
    soundfile.write(tmp_path / "a.mat", noise(8000), 16_000, format="MAT5")
    soundfile.write(tmp_path / "b.mat", noise(8000), 16_000, format="MAT5")
    soundfile.write(tmp_path / "a.wav", noise(8000), 16_000)
    assert dict(AudioFiles().stems(tmp_path)) == {"a": ["a.wav"], "b": ["b.mat"]}
    assert {".wav", ".opus", ".mp3", ".aif", ".w64"} <= suffixes()


def test_a_big_folder_is_listed_once(tmp_path):
    """No file of it is asked for by guesses."""
    rows = [f"u{i},{i}.wav" for i in range(3000)]
    for i in range(3000):
        (tmp_path / f"{i}.flac").touch()
    (tmp_path / "labels.csv").write_text("\n".join(["name,audio_path", *rows]))
    code = (
        "import sys, extract.datasets.csv as c\n"
        "seen = []\n"
        "sys.addaudithook(lambda event, args: seen.append(event) if event in ('os.scandir', 'os.listdir') else None)\n"
        f"table = c.CSV(root={str(tmp_path / 'labels.csv')!r}).read().table\n"
        "assert table['path'].tolist() == [f'{i}.flac' for i in range(3000)]\n"
        "assert len(seen) == 1, len(seen)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_folder_needs_no_labels(tmp_path):
    for path in ("one.wav", "deep/er/two.flac", "deep/three.v2.ogg", ".hidden/four.wav", ".five.wav", "._one.wav"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(tmp_path / path, noise(8000), 16_000, format=path.rpartition(".")[2].upper())
    (tmp_path / "one.txt").write_text("said")
    (tmp_path / "folder.wav").mkdir()
    labels = Folder(root=tmp_path).read()
    assert labels.table["path"].to_dict() == {
        "deep/er/two": "deep/er/two.flac",
        "deep/three.v2": "deep/three.v2.ogg",
        "one": "one.wav",
    }
    assert (labels.left_out, labels.ranges) == ({}, {})


def test_links_in_a_folder_lead_in_no_circle(tmp_path):
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    for path in (root / "a/one.wav", elsewhere / "two.wav"):
        path.parent.mkdir(parents=True)
        soundfile.write(path, noise(8000), 16_000)
    (root / "a/up").symlink_to(root)
    (root / "a/all").symlink_to(tmp_path)
    (root / "itself").symlink_to("itself")
    (root / "itself.wav").symlink_to("itself.wav")
    (root / "link").symlink_to(elsewhere)
    labels = Folder(root=root).read()
    assert "a/one" in labels.table.index
    assert sum(path.endswith("two.wav") for path in labels.table["path"]) == 1
    assert len(labels.table) == 3  # with the link in a circle, which is left out where it is opened
    with pytest.raises(AudioError, match="cannot be reached: Too many levels of symbolic links"):
        count_samples(root / "itself.wav")


def test_names_of_files_that_are_not_utf_8_are_left_out(tmp_path):
    soundfile.write(tmp_path / "good.wav", noise(8000), 16_000)
    for name in (b"caf\xe9.wav", b"d\xff/in.wav"):
        path = tmp_path / os.fsdecode(name)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes((tmp_path / "good.wav").read_bytes())
    labels = Folder(root=tmp_path).read()
    assert labels.table.index.tolist() == ["good"]
    assert labels.left_out.keys() == {"caf\\xe9", "d\\xff/in"}
    assert all("not UTF-8" in reason for reason in labels.left_out.values())


def test_a_folder_without_audio_is_said(tmp_path):
    with pytest.raises(DatasetError, match=r"dataset folder: no audio file in .*; expected a folder with audio files"):
        Folder(root=tmp_path).read()


def test_a_csv_needs_names_and_paths_alone(labelled):
    labelled.write_text("name,audio_path\nu,clip0.wav\nv,clip1\n")
    labels = CSV(root=labelled).read()
    assert labels.table.to_dict("list") == {"path": ["clip0.wav", "clip1.wav"]}
    assert (labels.left_out, labels.ranges) == ({}, {})
    labelled.write_text("name,audio_path,V\nu,clip0.wav,9\nv,clip1.wav,2\n")
    labels = CSV(root=labelled).read()
    assert labels.table["V"].tolist() == [2.0]
    assert "V=9, expected 1 to 5" in labels.left_out["u"]
