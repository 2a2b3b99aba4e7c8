"""Writing the files of a run: whole or not at all, and an error that names the file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from featurestore.errors import SerError


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file that is there only when all of it is; the folder that it is in is made, if it is not there.

    Raises:
        SerError: if it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.part")
    with _names(path):
        try:
            path.parent.mkdir(exist_ok=True)
            temporary.write_bytes(content.encode() if isinstance(content, str) else content)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def append_line(path: Path, line: str) -> None:
    """Add a line to a file that grows with the run.

    Raises:
        SerError: if it cannot be written.
    """
    with _names(path), path.open("a", encoding="utf-8", errors="backslashreplace") as file:
        file.write(line + "\n")


@contextmanager
def _names(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SerError(f"{path} cannot be written: {error.strerror or error}") from None
