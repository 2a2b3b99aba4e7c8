"""ser-store as a user runs it, on both backends: on stores that are damaged or unfinished, in a pipe, asked wrongly."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

import featurestore
from featurestore.access.writer import StoreWriter
from tests.featurestore.toy import FRAMES, place_of

MAIN = "from featurestore.cli import main; main()"


@pytest.fixture
def two_features(toy, tmp_path, suffix):
    return toy.write(tmp_path / f"toy{suffix}", features=("states", "pitch"))


def test_help_names_the_commands(ser_store):
    result = ser_store("--help")
    assert result.returncode == 0
    commands = ("info", "list", "show", "verify", "repair", "convert", "merge", "export", "add-labels")
    assert all(command in result.stdout for command in commands)


def test_info(ser_store, written):
    result = ser_store("info", written)
    assert result.returncode == 0
    assert "dataset toy, 9 utterances, 4 speakers" in result.stdout
    assert "declared ranges: V 1 to 5" in result.stdout
    for dtype in ("float32", "float16", "bfloat16", "int8", "int4"):
        assert f"failed: b2 ({dtype}): the encoder ran out of memory" in result.stdout


def test_list(ser_store, written):
    assert ser_store("list", written).stdout.splitlines() == list(FRAMES)


def test_show(ser_store, written):
    output = ser_store("show", written, "a/3").stdout
    assert "speaker" in output
    assert "int8: (3, 33, 5) (layer, frame, dim), 0.0125 to" in output
    assert "int8: no frames, the encoder ran out of memory" in ser_store("show", written, "b2").stdout


def test_a_feature_without_a_clock(ser_store, toy, tmp_path, suffix):
    path = toy.write(tmp_path / f"toy{suffix}", hop=0.0)
    assert ser_store("info", path).stdout.splitlines()[4].split()[:5] == ["states", "3", "5", "-", "int8"]
    assert "states: (3, 20, 5) (layer, frame, dim), no times, values" in ser_store("show", path, "a1").stdout


def test_show_of_an_unfinished_store(ser_store, toy, tmp_path, suffix):
    path = toy.write(tmp_path / f"toy{suffix}", shards=[0])
    there, not_yet = ser_store("show", path, "a1"), ser_store("show", path, "c1")
    assert "states: no frames, not extracted yet" in not_yet.stdout
    assert (not_yet.returncode, there.returncode, there.stderr) == (0, 0, "")


def test_verify_repair_and_extract_again(ser_store, toy, two_features):
    good = ser_store("verify", two_features)
    assert (good.returncode, "all is as it was written" in good.stdout) == (0, True)
    place = place_of(featurestore.open(two_features), "states", "data", 1)
    place.flip(0)
    for arguments in (["verify", two_features], ["verify", two_features, "b1"]):
        bad = ser_store(*arguments)
        assert bad.returncode == 1
        assert "its checksum is" in bad.stdout
        assert "utterances in it: b1" in bad.stdout
    other = ser_store("verify", two_features, "a1")
    assert (other.returncode, "a1: it is as it was written" in other.stdout) == (0, True)
    mended = ser_store("repair", two_features)
    assert (mended.returncode, "dropped: " in mended.stdout) == (3, True)
    unfinished = ser_store("verify", two_features)
    assert (unfinished.returncode, "unfinished: states" in unfinished.stdout) == (1, True)
    toy.write(two_features)
    assert ser_store("verify", two_features).returncode == 0
    assert ser_store("repair", two_features).returncode == 0


def test_a_feature_is_dropped(ser_store, two_features):
    dropped = ser_store("repair", two_features, "--drop", "pitch")
    assert (dropped.returncode, "dropped: all of pitch" in dropped.stdout) == (3, True)
    assert list(featurestore.open(two_features).parts) == ["states"]


def test_a_damaged_plan_is_said(ser_store, toy, tmp_path):
    path = toy.write(tmp_path / "toy.zarr", features=("states", "pitch"))
    (path / "features/pitch/zarr.json").write_text("{}")
    found = ser_store("verify", path)
    assert found.returncode == 1
    assert "plan of pitch" in found.stdout
    assert found.stderr == ""
    refused = ser_store("repair", path)
    assert (refused.returncode, len(refused.stderr.splitlines())) == (1, 1)
    assert f"ser-store repair {path} --drop pitch" in refused.stderr


def test_info_of_a_store_without_durations(ser_store, toy, tmp_path, suffix):
    path = toy.write(tmp_path / f"toy{suffix}")
    writer = StoreWriter(path)
    with writer.lock():
        writer.replace_table(writer.table.drop(columns="duration"))
    assert "9 utterances, 4 speakers\n" in ser_store("info", path).stdout


def test_convert(ser_store, two_features, tmp_path):
    other = tmp_path / ("copy.h5" if two_features.suffix == ".zarr" else "copy.zarr")
    result = ser_store("convert", two_features, other, "--dtype", "int4")
    assert (result.returncode, "9 utterances, pitch, states" in result.stdout) == (0, True)
    assert featurestore.open(other).features["states"].dtype == "int4"
    assert featurestore.open(other).features["pitch"].dtype == "float32"


def test_merge(ser_store, two_features, tmp_path):
    result = ser_store("merge", tmp_path / "twice.zarr", two_features, two_features)
    assert result.returncode == 1
    assert "9 names are in more than one store" in result.stderr
    assert "give the stores from which" in ser_store("merge", tmp_path / "none.zarr").stderr
    assert ser_store("merge", tmp_path / "one.zarr", two_features, "--features", "pitch").returncode == 0
    assert list(featurestore.open(tmp_path / "one.zarr").features) == ["pitch"]


def test_export(ser_store, toy, two_features, tmp_path):
    result = ser_store("export", two_features, tmp_path / "out", "--table", tmp_path / "table.csv")
    assert result.returncode == 3
    assert "left out: states of b2: the encoder ran out of memory" in result.stdout
    assert np.array_equal(np.load(tmp_path / "out/pitch/b1.npy"), toy.pitch["b1"])
    assert pd.read_csv(tmp_path / "table.csv")["name"].tolist() == list(FRAMES)
    assert "give a FOLDER for the frames" in ser_store("export", two_features).stderr


def test_add_labels(ser_store, two_features, tmp_path):
    labels = tmp_path / "labels.csv"
    labels.write_text("name,emotion\na1,joy\n")
    assert "added emotion" in ser_store("add-labels", two_features, labels).stdout
    assert "--replace replaces them" in ser_store("add-labels", two_features, labels).stderr
    assert ser_store("add-labels", two_features, labels, "--replace").returncode == 0
    assert featurestore.open(two_features).utterances.loc["a1", "emotion"] == "joy"


@pytest.mark.parametrize(
    "arguments", [["info"], ["show", "u"], ["verify"], ["repair"], ["export", "x"], ["convert", "x.zarr"]]
)
def test_errors_are_one_line(ser_store, arguments):
    arguments = [arguments[0], "nowhere.zarr", *arguments[1:]]
    result = ser_store(*arguments)
    assert result.returncode == 1
    assert result.stderr == "ser-store: no store at nowhere.zarr; ser-extract makes one\n"
    assert "Traceback" in ser_store(*arguments, "--debug").stderr


def test_an_unknown_name_is_one_line(ser_store, written):
    result = ser_store("show", written, "utt_99")
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1
    assert "no utterance 'utt_99'" in result.stderr


def test_an_unknown_command_is_an_error(ser_store):
    result = ser_store("veryfi", "x")
    assert result.returncode != 0
    assert "verify" in result.stdout + result.stderr
    assert "Traceback" not in result.stderr


def test_a_damaged_table_is_one_line(ser_store, toy, tmp_path):
    path = toy.write(tmp_path / "toy.zarr")
    file = path / "table/name/bytes/c/0"
    file.write_bytes(b"\xff" + file.read_bytes()[1:])
    result = ser_store("verify", path)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert "table" in result.stdout + result.stderr


def test_a_reader_that_stops_early_is_no_error(written, environment):
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", MAIN, "list", written]
    with subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0
