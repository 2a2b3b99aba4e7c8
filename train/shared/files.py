"""The files of a run: written whole or not at all, and an error that names the file."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator

from featurestore.shared.errors import SerError

AnyPath = Annotated[Path, AfterValidator(Path.absolute)]
"""A setting that names a file, which is found from whichever folder the run is gone on with."""


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


def read_note(path: Path, **kinds: Callable[[Any], Any]) -> dict[str, Any]:
    """Return what a JSON file holds.

    Args:
        path: of the file.
        kinds: what must be there, and its type.

    Raises:
        SerError: if something else is there.
    """
    try:
        note = json.loads(path.read_bytes())
        return {**note, **{name: kind(note[name]) for name, kind in kinds.items()}}
    except (ValueError, KeyError, TypeError) as error:
        raise SerError(f"{path} is damaged: {error}") from None


@contextmanager
def owned(folder: Path) -> Iterator[None]:
    """Keep other processes from training in a folder while the block runs, where its file system can.

    Raises:
        SerError: if another one does.
    """
    directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(directory)
        raise SerError(f"another process trains in {folder}: wait for it, or end it") from None
    except OSError:  # a file system without locks of folders
        pass
    try:
        yield
    finally:
        os.close(directory)


@contextmanager
def _names(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SerError(f"{path} cannot be written: {error.strerror or error}") from None
