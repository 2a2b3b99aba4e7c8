"""What every command does with its output, with errors and when it is interrupted; real processes throughout."""

import os
import pty
import resource
import signal
import subprocess
import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from featurestore.shared.command import INTERRUPTED, printable

COMMAND = """
import os, sys, time
from pathlib import Path
from cyclopts import App
from featurestore.shared.command import progress, run, say, say_table
from featurestore.shared.errors import ConfigError, StoreError

app = App(name="ser-test")

@app.default
def main(what: str, path: Path = None):
    {body}

run(app)
"""
HOSTILE = "a\x1b[31mb\x9b2J\r\n\u202ec\u200bd\u2028e\ud800f\x00g\x07"
SHOWN = r"a\x1b[31mb\x9b2J\r\n\u202ec\u200bd\u2028e\ud800f\x00g\x07"


@pytest.fixture
def command(environment):
    """Return the arguments of a process that runs such a command, and its environment."""

    def make(body, **variables):
        script = COMMAND.format(body=body.replace("\n", "\n    "))
        return [sys.executable, "-W", "error", "-c", script, "x"], {**environment, **variables}

    return make


@pytest.fixture
def output(command):
    def run(body, *arguments, **variables):
        words, env = command(body, **variables)
        result = subprocess.run([*words, *arguments], env=env, capture_output=True, check=False)
        return result.returncode, result.stdout.decode(), result.stderr.decode()

    return run


@given(st.text(max_size=20))
@example(HOSTILE)
@example("\U000e0041\ue000\xa0\x85\xad\ufeff\u2066\u3000")
def test_nothing_that_a_terminal_acts_on_is_left(text):
    shown = printable(text)
    assert shown.isprintable()
    assert printable(shown) == shown
    assert text.isprintable() <= (shown == text)


def test_lines_tables_and_errors_are_escaped(output):
    assert output(f"say({HOSTILE!r})") == (0, SHOWN + "\n", "")
    code, out, _ = output(f"say_table(['h', 'i'], [[{HOSTILE!r}, 1], ['y', 2]])")
    assert (code, out.splitlines()[2]) == (0, f"{SHOWN}  1")
    assert len({len(line) for line in out.splitlines()[1:]}) == 1
    assert output(f"raise StoreError({HOSTILE!r})") == (1, "", f"ser-test: {SHOWN}\n")
    assert output(f"raise OSError({HOSTILE!r})")[0] == 1
    code, out, err = output(f"raise ConfigError('one\\ntwo' + {HOSTILE.replace(chr(10), '')!r})")
    assert (code, out, err) == (1, "", f"ser-test: one\nser-test: two{SHOWN.replace(chr(92) + 'n', '')}\n")


def test_the_marks_and_escapes_of_data_do_not_reach_a_progress_bar(command):
    words, env = command("with progress('[red]l\\x1b[2J') as update: update(1, 2, '[bold]r[/nope]\\x1b]0;t\\x07')")
    here, there = pty.openpty()
    with subprocess.Popen(words, env={**env, "TERM": "xterm", "COLUMNS": "120"}, stderr=there) as process:
        os.close(there)
        shown = b""
        while True:
            try:
                shown += os.read(here, 4096)
            except OSError:  # of a terminal whose other end is closed
                break
    os.close(here)
    assert process.returncode == 0
    assert rb"[red]l\x1b[2J" in shown
    assert rb"[bold]r[/nope]\x1b]0;t\x07" in shown
    assert b"\x1b[2J" not in shown


@pytest.mark.parametrize(
    "variables",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "latin-1"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
)
def test_an_output_that_is_not_utf8_gets_escapes(output, variables):
    code, out, err = output("say('\\u2190 ok')\nraise StoreError('\\u2190')", **variables)
    assert (code, out, err) == (1, "\\u2190 ok\n", "ser-test: \\u2190\n")
    assert output("pass", "--help", **variables)[0] == 0


@pytest.mark.parametrize(
    ("body", "line"),
    [
        ("raise MemoryError", "there is not enough memory"),
        ("import numpy; numpy.empty(1 << 60, 'u1')", "there is not enough memory: Unable to allocate 1.00 EiB for"),
        ("def f(): return f()\nf()", "something that was read is nested too deeply"),
        ("open('/nowhere/x')", "/nowhere/x: No such file or directory"),
        ("os.rename('/nowhere/x', '/y')", "/nowhere/x -> /y: No such file or directory"),
        ("raise OSError(28, 'No space left on device')", "No space left on device"),
        (
            "raise RuntimeError('[enforce fail] can\\'t allocate memory: 9 bytes\\nmore')",
            "there is not enough memory: [enf",
        ),
        (
            "class SafetensorError(Exception): pass\nraise SafetensorError('No space left on device')",
            "a file cannot be w",
        ),
        ("raise RuntimeError('PytorchStreamWriter failed writing file data/1')", "a file cannot be written: Pytorch"),
        ("raise OSError('many\\n  lines')", "many lines"),
        ("raise TimeoutError", "TimeoutError"),
        ("raise StoreError('one\\ntwo')", r"one\ntwo"),
    ],
)
def test_an_error_is_one_line(output, body, line):
    code, out, err = output(body)
    assert (code, out, len(err.splitlines())) == (1, "", 1)
    assert err.startswith(f"ser-test: {line}")
    assert "Traceback" in output(body, "--debug")[2]


def test_a_defect_of_the_program_shows_where_it_is(output):
    assert "Traceback" in output("raise ValueError('x')")[2]


def test_a_command_that_is_asked_wrongly_says_so_in_one_line(output):
    code, out, err = output("pass", "--pth\x1b[31m")
    assert (code, out) == (2, "")
    assert err.startswith(r"ser-test: Unknown option: --pth\x1b[31m.")
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("closed", ["stdout", "stderr"])
def test_the_work_goes_on_when_nobody_reads(command, tmp_path, closed):
    body = "for n in range(20_000): say(f'line {n}', file=sys.stderr if n % 2 else None)\npath.touch()\nreturn 3"
    words, env = command(body)
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, closed: subprocess.PIPE}
    with subprocess.Popen([*words, str(tmp_path / "done")], env=env, **pipes) as process:
        pipe = getattr(process, closed)
        pipe.readline()
        pipe.close()
    assert process.returncode == 3
    assert (tmp_path / "done").exists()


def test_help_into_a_closed_pipe(command):
    words, env = command("pass")
    with subprocess.Popen([*words, "--help"], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_output_that_a_full_disk_does_not_take_fails_after_the_work(command, tmp_path):
    for returned, code in ((0, 1), (3, 3)):
        words, env = command(f"say('a')\npath.touch()\nreturn {returned}")
        done = tmp_path / str(returned)
        with open("/dev/full", "w") as full:
            result = subprocess.run([*words, str(done)], env=env, stdout=full, stderr=-1, check=False, text=True)
        assert (result.returncode, done.exists()) == (code, True)
        line = "ser-test: what it printed could not be written: No space left on device\n"
        assert result.stderr == ("" if returned else line)


@pytest.mark.parametrize("closed", [1, 2])
def test_closed_descriptors(command, tmp_path, closed):
    words, env = command("say('a')\nsay('b', file=sys.stderr)\npath.touch()")
    shell = f'exec "$@" {closed}>&-'
    result = subprocess.run(["sh", "-c", shell, "sh", *words, str(tmp_path / "done")], env=env, check=False)
    assert result.returncode == 0
    assert (tmp_path / "done").exists()


def test_ctrl_c_is_one_line_and_exit_code_130(command):
    sleep = "for _ in range(600): time.sleep(0.1)"  # a signal just before a sleep is noticed after it
    words, env = command(f"say('ready')\n{sleep}")
    with subprocess.Popen(words, env=env, stdout=-1, stderr=-1, text=True) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (130, f"ser-test: {INTERRUPTED}\n")


def test_a_real_lack_of_memory(command):
    words, env = command("x = [bytearray(1 << 26) for _ in range(1000)]")
    limit = 1 << 30
    result = subprocess.run(
        words,
        env={**env, "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
    )
    assert (result.returncode, result.stderr) == (1, "ser-test: there is not enough memory\n")


@pytest.mark.parametrize(
    ("stage", "word", "completed"),
    [("extract", "--lik", "--like"), ("train", "--li", "--list"), ("featurestore", "verif", "verify")],
)
def test_tab_completion_in_bash(environment, tmp_path, stage, word, completed):
    code = f"from {stage}.cli import main; main()"
    arguments = [sys.executable, "-c", code, "--install-completion", "--shell", "bash"]
    subprocess.run(arguments, env={**environment, "HOME": str(tmp_path)}, check=True, stdout=subprocess.DEVNULL)
    name = f"ser-{stage}".replace("featurestore", "store")
    ask = f"COMP_WORDS=({name} {word}) COMP_CWORD=1; _{name.replace('-', '_')}; echo ${{COMPREPLY[@]}}"
    bash = ["bash", "--norc", "-c", f"source {tmp_path}/.bashrc; {ask}"]
    assert subprocess.run(bash, capture_output=True, text=True, check=True).stdout.split() == [completed]
