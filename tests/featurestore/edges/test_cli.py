"""ser-store on stores that are damaged or unfinished, in a pipe, and asked wrongly."""

import subprocess
import sys

import pytest

MAIN = "from featurestore.cli import main; main()"


@pytest.fixture
def ser_store(environment):
    def run(*arguments):
        command = [sys.executable, "-c", MAIN, *map(str, arguments)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    return run


def test_help_names_the_commands(ser_store):
    result = ser_store("--help")
    assert result.returncode == 0
    assert all(command in result.stdout for command in ("info", "list", "show", "verify"))


def test_an_unknown_command_is_an_error(ser_store):
    result = ser_store("veryfi", "x")
    assert result.returncode != 0
    assert "verify" in result.stdout + result.stderr
    assert "Traceback" not in result.stderr


def test_show_of_an_unfinished_store(ser_store, toy, tmp_path):
    path = toy.write(tmp_path / "toy.zarr", shards=[0])
    there, not_yet = ser_store("show", path, "a1"), ser_store("show", path, "c1")
    assert "states: none, not extracted yet" in not_yet.stdout
    assert (not_yet.returncode, there.returncode, there.stderr) == (0, 0, "")


def test_a_damaged_table_is_one_line(ser_store, copied):
    file = copied / "table/name/bytes/c/0"
    file.write_bytes(b"\xff" + file.read_bytes()[1:])
    result = ser_store("verify", copied)
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
