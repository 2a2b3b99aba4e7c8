"""One bad path, name or label costs its utterance, never the dataset; what is said of many is short."""

import csv
import json
import os

import pandas as pd
import pytest
import soundfile

import featurestore
from extract.audio import AudioError, count_samples
from extract.config import ExtractConfig
from extract.datasets import Dataset
from extract.datasets.csv import CSV
from extract.datasets.emotale import EmoTale
from extract.datasets.iemocap import IEMOCAP
from extract.datasets.msp_podcast import MSPPodcast
from extract.labels import OWN
from extract.reasons import group
from featurestore.shared.config import load
from featurestore.shared.errors import ConfigError, DatasetError
from tests.extract import layouts
from tests.extract.samples import noise, ser_extract


def write_rows(file, *rows):
    with file.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows(rows)
    return file


@pytest.fixture
def bad_paths(tmp_path):
    """Paths by name, with what is said of each; ``good`` can be used."""
    soundfile.write(tmp_path / "good.wav", noise(8000), 16_000)
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "folder.wav").mkdir()
    (tmp_path / "circle.wav").symlink_to("circle.wav")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "gone.wav").symlink_to("nowhere.wav")
    (tmp_path / "device.wav").symlink_to("/dev/zero")
    return {
        "good": ("good.wav", ""),
        "pipe": ("pipe.wav", "is a pipe, a socket or a device, expected an audio file"),
        "folder": ("folder.wav", "is a folder, expected an audio file"),
        "circle": ("circle.wav", "cannot be reached: Too many levels of symbolic links"),
        "in_circle": ("loop/x.wav", "cannot be reached: Too many levels of symbolic links"),
        "gone": ("gone.wav", "no audio file"),
        "device": ("device.wav", "is a pipe, a socket or a device, expected an audio file"),
        "long": (f"{'x' * 300}.wav", "cannot be reached: File name too long"),
        "deep": ("y/" * 3000 + "x.wav", "cannot be reached: File name too long"),
        "nul": ("a\0b.wav", "its path holds a NUL character"),
        "below_a_file": ("good.wav/x.wav", "no audio file"),
        "nothing": ("", "its labels name no audio file"),
        "raw": ("x.raw", "no audio file"),
        "surrogate": ("\u00e9\u200b.wav", "no audio file"),
    }


@pytest.mark.parametrize("plan", [True, False])
def test_bad_paths_are_left_out_with_their_reasons(bad_paths, tmp_path, plan):
    rows = [(name, path) for name, (path, _) in bad_paths.items()]
    labels, store = write_rows(tmp_path / "labels.csv", ("name", "audio_path"), *rows), tmp_path / "s.zarr"
    options = ["--plan"] if plan else []
    result = ser_extract("--dataset", "csv", "--root", labels, "--features", "logmel", "--store", store, *options)
    assert result.returncode == 3, result.stderr
    assert result.stderr == ""
    if plan:
        return
    opened = featurestore.open(store)
    assert opened.names() == ["good"]
    for name, (_, reason) in bad_paths.items():
        assert reason in opened.left_out.get(name, ""), name


def test_a_path_that_is_bad_is_an_audio_error(bad_paths, tmp_path):
    for path, reason in bad_paths.values():
        if reason and path and "\0" not in path:
            with pytest.raises(AudioError, match=reason):
                count_samples(tmp_path / path)
    with pytest.raises(AudioError, match="cannot be used: embedded null byte"):
        count_samples(tmp_path / "a\0b.wav")


@pytest.mark.parametrize("kind", ["long", "folder", "pipe"])
def test_sidecars_that_cannot_be_read_are_flagged(tmp_path, spoken, kind):
    root = layouts.msp_podcast(tmp_path, spoken)
    name = "x" * 300 if kind == "long" else layouts.MSP_TURNS[1].removesuffix(".wav")
    for file in (root / f"Transcripts/{name}.txt", root / f"ForceAligned/{name}.TextGrid"):
        if kind != "long":
            file.unlink(missing_ok=True)
            os.mkfifo(file) if kind == "pipe" else file.mkdir()
    with (root / "Labels/labels_consensus.csv").open("a") as stream:
        stream.write(f"\n{'x' * 300}.wav,N,3,3,3,1,Male,Train\n")
    table = MSPPodcast(root=root, alignments=True).read().table
    assert len(table) == 6
    if kind != "long":
        expected = f"the transcript {name}.txt cannot be used: it is not a regular file; the alignment {name}.TextGrid"
        assert expected in table.loc[name, "flags"]


def test_a_repeated_name_costs_little_memory(tmp_path):
    """Twenty thousand rows of one name, and two hundred of each of a thousand, within a gigabyte."""
    soundfile.write(tmp_path / "u.wav", noise(8000), 16_000)
    rows = [("twice", "u.wav")] * 20_000 + [(f"u{i % 1000}", "u.wav") for i in range(100_000)] + [("good", "u.wav")]
    labels = write_rows(tmp_path / "labels.csv", ("name", "audio_path"), *rows)
    arguments = ["--dataset", "csv", "--root", labels, "--features", "hnr", "--store", tmp_path / "s.zarr", "workers=1"]
    result = ser_extract(*arguments, memory=1 << 30)
    assert result.returncode == 3, result.stderr
    left_out = featurestore.open(tmp_path / "s.zarr").left_out
    assert len(left_out) == 1001
    where = "labels.csv line 2, labels.csv line 3, labels.csv line 4 and 19997 more"
    assert left_out["twice"] == f"the name is not unique, it stands in {where}"
    assert max(map(len, result.stdout.splitlines())) < 400
    assert len(result.stdout.splitlines()) < 10


def test_the_same_file_many_times_is_read_once(tmp_path):
    soundfile.write(tmp_path / "u.wav", noise(160_000), 16_000)
    labels = write_rows(tmp_path / "labels.csv", ("name", "audio_path"), *((f"u{i}", "u.wav") for i in range(5000)))
    arguments = ["--dataset", "csv", "--root", labels, "--features", "logmel", "--store", tmp_path / "s.zarr", "--plan"]
    result = ser_extract(*arguments)
    assert result.returncode == 0, result.stderr
    assert "flagged: 4999, e.g. u1: the same audio as u0" in result.stdout


def test_reasons_of_one_kind_are_one_line(tmp_path):
    """The whole list is in a file, also where the error ends the command and there is no store."""
    soundfile.write(tmp_path / "u.wav", noise(8000), 16_000)
    rows = [(f"u{i}", f"away/{i}.wav") for i in range(500)]
    labels = write_rows(tmp_path / "labels.csv", ("name", "audio_path"), *rows)
    arguments = ["--dataset", "csv", "--root", labels, "--features", "logmel", "--store", tmp_path / "new/s.zarr"]
    listed = tmp_path / "new/s.zarr.reasons.csv"
    result = ser_extract(*arguments)
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert "no utterance can be used (500): 500 utterances (u0, u1, u2 …): e.g. no audio file" in line
    assert line.endswith(f"; all are listed in {listed}")
    assert len(pd.read_csv(listed)) == 500
    listed.unlink()
    write_rows(labels, ("name", "audio_path"), *rows, ("good", "u.wav"))
    for options in (["--plan"], []):
        result = ser_extract(*arguments, *options)
        assert result.returncode == 3, result.stderr
        assert f"left out: 500 utterances (u0, u1, u2 …): e.g. no audio file {tmp_path}/away/0.wav" in result.stdout
        assert f"all are listed in {listed}" in result.stdout.splitlines()
        found = pd.read_csv(listed)
        assert found.columns.tolist() == ["name", "what", "reason"]
        assert found["name"].tolist() == [f"u{i}" for i in range(500)]
        listed.unlink()
    assert len(featurestore.open(tmp_path / "new/s.zarr").left_out) == 500


def test_reasons_of_several_kinds_are_told_apart():
    reasons = {f"a{i}": f"no audio file /x/a{i}.wav" for i in range(9)} | {
        "b": "labels.csv line 7 has V=9",
        "c": "silent",
    }
    assert [list(one.of) for one in group(reasons)] == [[f"a{i}" for i in range(9)], ["b"], ["c"]]
    twice = {name: f"more than one has its name: {name}.flac, {name}.wav in /x; keep one" for name in "abcdef"}
    assert [list(one.of) for one in group(twice)] == [[*"abcdef"]]
    features = {f"{name} ({feature})": "silent" for name in "abc" for feature in ("pitch", "logmel")}
    (one,) = group(features, ["pitch", "logmel"])
    assert len(one.lines()) == 6
    assert one.utterances == ("a", "b", "c")
    many, *few = group(reasons)
    assert many.lines() == ["9 utterances (a0, a1, a2 …): e.g. no audio file /x/a0.wav"]
    assert [one.lines() for one in few] == [["b: labels.csv line 7 has V=9"], ["c: silent"]]


SPACES = [" ", "\t", "\u00a0", "\u2003", "\u3000", "\u200b", "\ufeff", "\u2060", "\u200e"]


@pytest.mark.parametrize("space", SPACES, ids=[f"U+{ord(space):04X}" for space in SPACES])
def test_space_around_labels_is_stripped_and_reported(labelled, space, caplog):
    text = labelled.read_text(encoding="utf-8").replace(",s0,", f",s0{space},").replace(",s1,", f",{space}s0,")
    labelled.write_text(text.replace("001,", f"001{space},"), encoding="utf-8")
    table = CSV(root=labelled).read().table
    assert table.index.tolist() == ["000", "001", "002", "003"]
    assert table["speaker"].tolist() == ["s0", "s0", "s2", "s3"]
    assert table["transcript"].tolist() == ["jå nein"] * 4
    (record,) = caplog.records
    assert record.getMessage().startswith(f"{labelled}: stripped the space around values, by column: name 1, speaker ")


def test_names_that_space_made_different_are_the_same(labelled):
    with labelled.open("a") as file:
        file.write("000\u00a0,clip0.wav,3,3,train,s0,\n")
    labels = CSV(root=labelled).read()
    assert labels.table.index.tolist() == ["001", "002", "003"]
    assert labels.left_out["000"].startswith("the name is not unique, it stands in labels.csv line 2")


def test_every_parser_strips(tmp_path, spoken, caplog):
    """Also where the labels are JSON, or names of files."""
    root = layouts.msp_podcast(tmp_path / "msp", spoken, "json")
    file = root / "Labels/labels_consensus.json"
    file.write_text(file.read_text().replace('"SpkrID": "30"', '"SpkrID": "30\\u200b"'))
    assert MSPPodcast(root=root).read().table["speaker"].iloc[0] == "30"
    assert "stripped the space around values, by column: " in caplog.text
    (tmp_path / "in").mkdir()
    for name in ("a.wav", "\u3000b.wav", "c .wav", "c.wav"):
        soundfile.write(tmp_path / "in" / name, noise(8000), 16_000)
    labels = Dataset.kind("folder")(root=tmp_path / "in").read()
    assert labels.table["path"].to_dict() == {"a": "a.wav", "b": "\u3000b.wav"}
    assert labels.left_out == {"c": "the name is not unique: another one differs from it only by space around it"}


def test_names_that_are_one_in_unicodes_normal_form_are_flagged(labelled, caplog):
    with labelled.open("a", encoding="utf-8") as file:
        file.write("\u00e9,clip0.wav,3,3,train,\u00e9,\ne\u0301,clip1.wav,3,3,train,e\u0301,\n")
    table = CSV(root=labelled).read().table
    assert table["flags"].tolist()[:4] == [""] * 4
    assert set(table["flags"][4:]) == {"its name differs from another one only in how Unicode composes it"}
    assert "the column speaker has values that differ only in how Unicode composes them" in caplog.text


@pytest.mark.parametrize("column", OWN)
def test_columns_that_the_store_has_of_its_own_are_said_not_to_be_used(labelled, tmp_path, column):
    write_rows(labelled, ("name", "audio_path", column), ("u", "clip0.wav", "77"))
    result = ser_extract("--dataset", "csv", "--root", labelled, "--features", "logmel", "--store", tmp_path / "s.zarr")
    assert result.returncode == 0, result.stderr
    assert f"the labels' columns {column} are not used: the store has its own of that name" in result.stderr
    assert featurestore.open(tmp_path / "s.zarr").utterances[column].iloc[0] < 77


def test_columns_by_the_names_of_a_datasets_own_are_not_used_and_said(tmp_path, emotale, spoken, caplog):
    podcast = layouts.msp_podcast(tmp_path / "podcast", spoken)
    for dataset, file in (
        (EmoTale(root=emotale), emotale / "annotations.csv"),
        (MSPPodcast(root=podcast), podcast / "Labels/labels_consensus.csv"),
    ):
        before = dataset.read().table
        labels = pd.read_csv(file, dtype=str, keep_default_na=False)
        own = ["V", "name", "path", "speaker"]
        labels.assign(**dict.fromkeys(own, "3"), mood="calm").to_csv(file, index=False)
        caplog.clear()
        assert dataset.read().table.drop(columns="mood").equals(before)
        assert f"{file}: its columns {', '.join(own)} are not used" in caplog.text


def test_columns_that_a_dataset_replaces_are_said(tmp_path, caplog):
    layouts.write(tmp_path, {"labels.csv": "name,audio_path,speaker\nSes01F_impro01_F000,a.wav,s1\n"})
    IEMOCAP(root=tmp_path, label_csv=tmp_path).read()
    assert "the labels' columns speaker are replaced by what the names of the utterances say" in caplog.text


@pytest.mark.parametrize("value", ["[-.inf,.inf]", "[1,.inf]", "[.nan,5]", "[1,.nan]", "[5,1]", "[1,1]", "[1e400,2]"])
@pytest.mark.parametrize("dataset", ["csv", "audformat"])
def test_ranges_that_are_none_are_one_line(dataset, value):
    expected = "is not a scale, expected two finite numbers, the lower one first|Input should be a finite number"
    with pytest.raises(ConfigError, match=expected) as error:
        load(ExtractConfig, overrides=[f"dataset={dataset}", f"dataset.ranges.V={value}"])
    assert len(str(error.value).splitlines()) <= 2  # a line for each number that is none


@pytest.mark.parametrize("name", [name for name in Dataset.names() if name not in ("csv", "demo", "audformat")])
def test_a_file_where_a_folder_is_expected_is_said(name, tmp_path):
    file = tmp_path / "annotations.csv"
    file.write_text("name,audio_path\nu,u.wav\n")
    with pytest.raises(DatasetError, match=f"dataset {name}: .*annotations.csv is a file, expected a folder"):
        Dataset.kind(name)(root=file).read()


def test_a_folder_where_a_label_file_is_expected_is_said(tmp_path, spoken, emotale):
    root = layouts.msp_podcast(tmp_path / "msp", spoken, "1.6")
    broken = {
        "emotale": (emotale, "annotations.csv"),
        "csv": (tmp_path / "c", "labels.csv"),
        "ccsemo": (tmp_path / "d", "ccsemo_label.csv"),
        "crema_d": (layouts.crema_d(tmp_path / "crema", spoken), "finishedResponses.csv"),
        "msp_podcast": (root, "partitions.txt"),
    }
    for name, (folder, file) in broken.items():
        (folder / file).unlink(missing_ok=True)
        (folder / file).mkdir(parents=True)
        with pytest.raises(
            DatasetError, match=rf"({file} cannot be read|no label file in .*{file}; expected)"
        ) as error:
            Dataset.kind(name)(root=folder).read()
        assert "\n" not in str(error.value)
    (tmp_path / "demo").touch()
    with pytest.raises(DatasetError, match="is a file"):
        Dataset.kind("demo")(root=tmp_path / "demo").read()


def test_a_label_file_with_a_name_that_is_not_utf_8(labelled, tmp_path):
    file = labelled.with_name(os.fsdecode(b"caf\xe9.csv"))
    file.write_bytes(labelled.read_bytes() + b"bad,clip0.wav,9,3,train,s0,\n")
    result = ser_extract("--dataset", "csv", "--root", file, "--features", "logmel", "--store", tmp_path / "s.zarr")
    assert result.returncode == 3, result.stderr
    reason = featurestore.open(tmp_path / "s.zarr").left_out["bad"]
    assert reason.startswith("caf\\xe9.csv line 6 has V=9, expected 1 to 5")


def test_label_files_that_are_not_utf_8_are_one_line(labelled, tmp_path, spoken):
    labelled.write_bytes(b"name,audio_path\ncaf\xe9,clip0.wav\n")
    with pytest.raises(DatasetError, match=r"not a table of comma-separated values: .*; save it as UTF-8"):
        CSV(root=labelled).read()
    root = layouts.msp_podcast(tmp_path / "msp", spoken, "1.6")
    (root / "Speaker_ids.txt").write_bytes(b"caf\xe9.wav; 3\n")
    with pytest.raises(DatasetError, match=r"Speaker_ids\.txt is not UTF-8"):
        MSPPodcast(root=root).read()


@pytest.mark.parametrize("said", ["1", "[]", '"x"', '{"EmoVal": "\\ud800"}'])
def test_json_labels_of_another_form_are_one_line(tmp_path, spoken, said):
    root = layouts.msp_podcast(tmp_path, spoken, "json")
    file = root / "Labels/labels_consensus.json"
    file.write_text(
        json.dumps(json.loads(file.read_text()) | {"MSP-PODCAST_9.wav": "REPLACE"}).replace('"REPLACE"', said)
    )
    with pytest.raises(DatasetError, match=r"labels_consensus\.json") as error:
        MSPPodcast(root=root).read()
    assert "\n" not in str(error.value)


def test_sizes_are_in_the_unit_that_shows_them(labelled, tmp_path):
    """A disk that is all but full, or a limit."""
    from featurestore.format.layout import describe_bytes

    assert [describe_bytes(count) for count in (0, 999, 1000, 99_999, 100_000, 1e9)] == [
        "0 B",
        "999 B",
        "1.0 kB",
        "100.0 kB",
        "0.1 MB",
        "1.00 GB",
    ]
