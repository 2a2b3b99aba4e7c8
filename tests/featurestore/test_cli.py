"""ser-store as a user runs it."""

import subprocess
import sys

import pytest


def ser_store(*arguments):
    command = [sys.executable, "-c", "from featurestore.cli import main; main()", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_info(written):
    result = ser_store("info", written.path)
    assert result.returncode == 0
    assert "dataset toy, 12 utterances, 3 speakers" in result.stdout
    assert "declared ranges: V 1 to 5" in result.stdout
    for dtype in ("float32", "float16", "int8"):
        assert f"without {dtype}: utt_7: 3 of 100 samples are NaN or infinite" in result.stdout
    assert "left out: gone: no audio file gone.wav" in result.stdout


def test_list(written):
    assert ser_store("list", written.path).stdout.split() == [f"utt_{i}" for i in range(12)]


def test_show(written):
    output = ser_store("show", written.path, "utt_3").stdout
    assert "spk 0 é" in output
    assert f"int8: (3, {written.frames[3]}, 8) (layer, frame, dim), 0.0125 to" in output
    assert "int8: none, 3 of 100 samples" in ser_store("show", written.path, "utt_7").stdout


def test_verify(fresh):
    good = ser_store("verify", fresh.path)
    assert (good.returncode, "all is as it was written" in good.stdout) == (0, True)
    file = fresh.path / "features/int8/data/c/0/0/0"
    file.write_bytes(file.read_bytes()[:-1])
    bad = ser_store("verify", fresh.path)
    assert bad.returncode == 1
    assert f"damaged: {file}: it has" in bad.stdout
    assert "utterances in it: utt_0, utt_1" in bad.stdout


def test_verify_of_an_unfinished_store(fresh):
    (fresh.path / "features/int8/manifest.json").unlink()
    result = ser_store("verify", fresh.path)
    assert result.returncode == 1
    assert "unfinished: int8" in result.stdout


@pytest.mark.parametrize("arguments", [["info", "nowhere.zarr"], ["show", "nowhere.zarr", "u"]])
def test_errors_are_one_line(arguments):
    result = ser_store(*arguments)
    assert result.returncode == 1
    assert result.stderr == "ser-store: no store at nowhere.zarr; ser-extract makes one\n"
    assert "Traceback" in ser_store(*arguments, "--debug").stderr


def test_an_unknown_name_is_one_line(written):
    result = ser_store("show", written.path, "utt_99")
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1
    assert "no utterance 'utt_99'" in result.stderr
