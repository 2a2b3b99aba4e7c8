"""Find the audio of utterances: by the name in the labels, or by its stem in any format that can be read."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType

import soundfile

from extract.audio import AudioError

FURTHER = ("aif", "aifc", "fap", "iff", "mp1", "mp2", "mpeg", "oga", "opus", "sf", "snd", "sph", "8svx", "wve")
"""Further endings of files that libsndfile reads, beside the names of its formats."""
ALSO_DATA = (".htk", ".mat", ".mat4", ".mat5")
"""Endings that other data often has, too: such a file counts only if no other file has its stem."""
OTHERS = (".aac", ".amr", ".avi", ".m4a", ".mkv", ".mov", ".mp4", ".mpg", ".raw", ".webm", ".wma")
"""Endings of audio that cannot be read; labels may name such files, from which a dataset was converted."""
Stems = Mapping[str, list[str]]
"""The names of the audio files of a folder, by their stems."""


@cache
def suffixes() -> frozenset[str]:
    """Return the endings, in lower case, of the formats that can be read."""
    formats = {name.lower() for name in soundfile.available_formats()} - {"raw"}
    return frozenset(f".{ending}" for ending in formats | {*FURTHER, "mat"})


def split_suffix(name: str) -> tuple[str, str]:
    """Return the stem and the ending of a file name; an ending that is not one of audio belongs to the stem.

    >>> split_suffix("a.v2.FLAC"), split_suffix("a.v2"), split_suffix("a.m4a")
    (('a.v2', '.FLAC'), ('a.v2', ''), ('a', '.m4a'))
    """
    stem, dot, ending = name.rpartition(".")
    suffix = (dot + ending).lower()
    return (stem, dot + ending) if suffix in suffixes() or suffix in OTHERS else (name, "")


class AudioFiles:
    """Finds audio files in folders, each of which is listed once. Hidden files do not count as audio."""

    def __init__(self) -> None:
        self._listings: dict[str, tuple[frozenset[str], Stems]] = {}

    def stems(self, folder: Path) -> Stems:
        """Return the names of the audio files of a folder, in order, by their stems; none if it cannot be listed."""
        return self._listing(folder)[1]

    def find(self, path: Path) -> Path | None:
        """Return the file at ``path``, else the audio file with its stem, whatever the ending; None if there is none.

        Raises:
            AudioError: if several audio files have that stem.
        """
        names, stems = self._listing(path.parent)
        name = path.name if path.name in names else path.name.strip()
        if name in names:
            return path.with_name(name)
        found = stems.get(name) or stems.get(split_suffix(name)[0]) or []
        if len(found) > 1:
            raise AudioError(f"more than one audio file has its name: {', '.join(found)} in {path.parent}; keep one")
        return path.with_name(found[0]) if found else None

    def has(self, path: Path) -> bool:
        """Return whether `find` finds a file, or several."""
        try:
            return self.find(path) is not None
        except AudioError:
            return True

    def _listing(self, folder: Path) -> tuple[frozenset[str], Stems]:
        key = str(folder)
        if key not in self._listings:
            self._listings[key] = _list(folder)
        return self._listings[key]


def _list(folder: Path) -> tuple[frozenset[str], Stems]:
    """Return the names of all files of a folder, and those of audio by their stems."""
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if not _is_folder(entry))
    except (OSError, ValueError):  # it does not exist, is not a folder, or has an impossible name
        return frozenset(), MappingProxyType({})
    audio: dict[str, list[str]] = {}
    data: dict[str, list[str]] = {}
    for name in names:
        stem, suffix = split_suffix(name)
        if suffix.lower() in suffixes() and not name.startswith("."):
            (data if suffix.lower() in ALSO_DATA else audio).setdefault(stem, []).append(name)
    return frozenset(names), {**data, **audio}


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a circle of links
        return False


def walk(root: Path, left_out: dict[str, str]) -> Iterator[Path]:
    """Yield a folder and all folders in it, at any depth, but no hidden ones; each once, even if links form a circle.

    Args:
        root: the folder.
        left_out: receives the folders that cannot be listed, with the reason.
    """

    def refuse(error: OSError) -> None:
        left_out[str(error.filename)] = f"the folder cannot be listed: {os.strerror(error.errno or 0)}"

    links, seen = [str(root)], set()
    while links:
        for folder, inner, _ in os.walk(links.pop(0), onerror=refuse):
            place = os.path.realpath(folder)
            inner[:] = sorted(name for name in inner if not name.startswith(".")) if place not in seen else []
            links += [link for name in inner if os.path.islink(link := os.path.join(folder, name))]
            if place not in seen:
                seen.add(place)
                yield Path(folder)
