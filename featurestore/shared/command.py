"""What the commands share: errors in one line, an exit code that tells the truth, tables and progress.

What is printed cannot move the cursor or change colours: characters that are not printable appear as escapes. Output
that cannot be written is dropped, and the work goes on: a reader that has gone (``ser-train … | head -1``) changes
nothing, and if a disk is full, the command fails when its work is done.
"""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

from typing_extensions import override

from featurestore.shared.errors import ConfigError, SerError

if TYPE_CHECKING:
    from cyclopts import App

INCOMPLETE = 3
"""The exit code of a command that did its work but had to leave something out, and said what."""
INTERRUPTED = "interrupted: what is written stays; run the same command again to continue"

SECONDS_BETWEEN_LINES = 10
NO_MEMORY = "there is not enough memory"
LACKS = {
    NO_MEMORY: ("can't allocate memory", "out of memory"),
    "a file cannot be written": ("No space left on device", "file write failed", "PytorchStreamWriter failed"),
}
"""What a user reads, by phrases in the errors of libraries when memory or disk space is exhausted."""


def run(app: App, interrupted: str = INTERRUPTED) -> NoReturn:
    """Run a command and exit with 0 only if all of it worked; ``--debug`` shows the traceback of an error.

    Every command also has ``--install-completion``, for the shell.

    Args:
        app: the command.
        interrupted: what to say after Ctrl-C.
    """
    from cyclopts import CycloptsError

    app.suppress_keyboard_interrupt = False  # it would end without a message
    app.help_epilogue = "With --debug an error shows its traceback."
    if "--install-completion" not in app:  # a process may run a command twice
        app.register_install_completion_command()
    outputs = _dependable_outputs()
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    problems: list[str] = []
    try:
        code = app(arguments, result_action="return_value", print_error=False, exit_on_error=False) or 0
    except KeyboardInterrupt:
        code, problems = 130, [interrupted]
    except CycloptsError as error:
        code, problems = 2, [str(error)]
    except Exception as error:
        code, problems = 1, _problems(error)
        if not problems or len(arguments) < len(sys.argv) - 1:
            raise
    lost = [output.error for output in outputs if output.error]
    if lost and not code:
        code, problems = 1, [f"what it printed could not be written: {_of_system(lost[0])}"]
    for problem in problems:
        say(f"{app.name[0]}: {problem}", file=sys.stderr)
    sys.exit(code)


def printable(text: str) -> str:
    r"""Return ``text`` with escapes for the characters that a terminal would not show, or would act on.

    >>> print(printable("a\x1b[1mb\n\u202e"))
    a\x1b[1mb\n\u202e
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def say(line: str = "", file: object = None) -> None:
    """Print one line, as `printable` makes it."""
    print(printable(line), file=file, flush=True)  # type: ignore[call-overload]


def say_table(header: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    """Print a table in aligned columns, numbers to the right."""
    cells = [[printable(str(cell)) for cell in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for number, row in enumerate(cells):
        say("  ".join(_align(cell, width) for cell, width in zip(row, widths, strict=True)).rstrip())
        if number == 0:
            say("  ".join("-" * width for width in widths))


def describe_seconds(seconds: float) -> str:
    """Return a time in the unit that shows it.

    >>> describe_seconds(42), describe_seconds(250), describe_seconds(9000)
    ('42 s', '4 min', '2.5 h')
    """
    if seconds >= 7200:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s"


def _align(cell: str, width: int) -> str:
    return cell.rjust(width) if cell[:1] in "0123456789.+-" else cell.ljust(width)


@contextmanager
def progress(label: str) -> Iterator[Callable[..., None]]:
    """Yield a function that shows (done, total, remark): a bar on a terminal, else a line every ten seconds."""
    from rich.console import Console
    from rich.progress import Progress, TextColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield _plain_progress(label)
        return
    text = [TextColumn(f"{{task.{what}}}", markup=False) for what in ("description", "fields[remark]")]
    with Progress(text[0], *Progress.get_default_columns()[1:], text[1], console=console) as bar:
        task = bar.add_task(printable(label), remark="")
        yield lambda done, total, remark="": bar.update(task, completed=done, total=total, remark=printable(remark))


def _plain_progress(label: str) -> Callable[..., None]:
    last = time.monotonic()

    def update(done: float, total: float, remark: str = "") -> None:
        nonlocal last
        if time.monotonic() - last >= SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            say(f"{label}: {done / total:.0%} {remark}".rstrip(), file=sys.stderr)

    return update


class _Output(io.FileIO):
    """A file descriptor to which writing never fails: what cannot be written is dropped.

    Attributes:
        error: the first one; None if there was none, or only the reader has gone.
    """

    error: OSError | None = None

    @override
    def write(self, data: object) -> int:
        try:
            return super().write(data)  # type: ignore[arg-type]
        except OSError as error:
            if not isinstance(error, BrokenPipeError):
                self.error = self.error or error
            return memoryview(data).nbytes  # type: ignore[arg-type]


def _dependable_outputs() -> list[_Output]:
    """Replace stdout and stderr by files that write to an `_Output`, and return these outputs."""
    outputs = []
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):  # not if the descriptor has been closed, or in a notebook
            stream.flush()
            outputs.append(_Output(stream.fileno(), "w", closefd=False))
            buffer = io.BufferedWriter(outputs[-1])
            text = io.TextIOWrapper(buffer, stream.encoding, errors="backslashreplace", line_buffering=True)
            setattr(sys, name, text)
    return outputs


def _problems(error: Exception) -> list[str]:
    """Return the lines that say what is wrong, if users can mend it: one line, or one per setting."""
    if isinstance(error, ConfigError):
        return str(error).split("\n")
    if isinstance(error, SerError):
        return [str(error)]
    if isinstance(error, OSError):
        return [_of_system(error)]
    if isinstance(error, RecursionError):
        return ["something that was read is nested too deeply: is it damaged? --debug shows where"]
    found = next(filter(None, (lack_of(what, error) for what in LACKS)), "")
    return [found] if found else []


def lack_of(what: str, error: Exception) -> str:
    """Return what users read of the error of a library that says that something of `LACKS` is exhausted, else nothing.

    >>> lack_of(NO_MEMORY, RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"))
    'there is not enough memory: CUDA out of memory. Tried to allocate 2 GiB'
    """
    text = str(error)
    if (isinstance(error, MemoryError) and what == NO_MEMORY) or any(phrase in text for phrase in LACKS[what]):
        return ": ".join([what, *text.splitlines()[:1]])
    return ""


def _of_system(error: OSError) -> str:
    """Return what the system says, after the name of the file."""
    if error.strerror is None or error.filename is None:
        text = " ".join(str(error).split())  # HDF5 needs many lines for one
        return error.strerror or text or type(error).__name__
    files = [str(file) for file in (error.filename, error.filename2) if file is not None]
    return f"{' -> '.join(files)}: {error.strerror}"
