"""What the commands share: errors in one line, an exit code that tells the truth, tables and progress."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

from featurestore.errors import SerError

if TYPE_CHECKING:
    from cyclopts import App

INCOMPLETE = 3
"""The exit code of a command that did its work but had to leave something out, and said what."""

SECONDS_BETWEEN_LINES = 10


def run(app: App) -> NoReturn:
    """Run a command and exit with 0 only if all of it worked; ``--debug`` shows the traceback of an error."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    try:
        code = app(arguments, result_action="return_value")
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(0)
    except (SerError, OSError) as error:  # a full disk, a folder that may not be written to
        if len(arguments) < len(sys.argv) - 1:
            raise
        said = (
            " ".join(str(error).split()) if isinstance(error, OSError) else str(error)
        )  # HDF5 needs many lines for one
        for line in said.splitlines():
            say(f"{app.name[0]}: {line}", file=sys.stderr)
        sys.exit(1)
    sys.exit(code or 0)


def say(line: str = "", file: object = None) -> None:
    """Print one line as it is."""
    print(line, file=file, flush=True)  # type: ignore[call-overload]


def say_table(header: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    """Print a table in aligned columns, numbers to the right."""
    cells = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for number, row in enumerate(cells):
        say("  ".join(_align(cell, width) for cell, width in zip(row, widths, strict=True)).rstrip())
        if number == 0:
            say("  ".join("-" * width for width in widths))


def _align(cell: str, width: int) -> str:
    return cell.rjust(width) if cell[:1] in "0123456789.+-" else cell.ljust(width)


@contextmanager
def progress(label: str) -> Iterator[Callable[..., None]]:
    """Give out a function to be told (done, total, remark): a bar on a terminal, elsewhere a line every ten seconds."""
    from rich.console import Console
    from rich.progress import Progress, TextColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield _plain_progress(label)
        return
    with Progress(*Progress.get_default_columns(), TextColumn("{task.fields[remark]}"), console=console) as bar:
        task = bar.add_task(label, remark="")
        yield lambda done, total, remark="": bar.update(task, completed=done, total=total, remark=remark)


def _plain_progress(label: str) -> Callable[..., None]:
    last = time.monotonic()

    def update(done: float, total: float, remark: str = "") -> None:
        nonlocal last
        if time.monotonic() - last >= SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            say(f"{label}: {done / total:.0%} {remark}".rstrip(), file=sys.stderr)

    return update
