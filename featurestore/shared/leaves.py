"""The values that users set in YAML files and ``key.sub=value`` overrides, and where each comes from."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from featurestore.shared.errors import ConfigError
from featurestore.shared.strict_yaml import parse

LARGEST_FILE = 1_000_000
"""The most bytes of a YAML file."""
Keys = tuple[str, ...]

_shortened = reprlib.Repr()
_shortened.maxstring = _shortened.maxother = 200
short = _shortened.repr
"""`repr`, with long texts shortened to their beginning and end."""


class Leaf(NamedTuple):
    """A value, and the file or override that it comes from."""

    value: Any
    source: str


def leaves(files: Iterable[str | Path], overrides: Iterable[str]) -> Iterator[tuple[Keys, Leaf]]:
    """Yield every leaf with its keys, source by source in their order; the name of a part comes before its settings.

    Raises:
        ConfigError: if a file or override cannot be read, or sets something twice.
    """
    for values, source in chain(map(read_file, files), map(_read_override, overrides)):
        found: dict[Keys, Leaf] = {}
        for keys, value in _walk(values, (), source):
            if keys in found:
                raise ConfigError(f"{source}: {'.'.join(keys)} is there twice")
            found[keys] = Leaf(value, source)
        yield from _in_order(found)


def _in_order(found: dict[Keys, Leaf]) -> list[tuple[Keys, Leaf]]:
    """Return the leaves section by section in the order of the text, but the name of a part before its settings."""
    places: dict[Keys, int] = {}
    for keys in found:
        for end in range(1, len(keys) + 1):
            places.setdefault(keys[:end], len(places))
    names = {keys for keys in found if keys[-1] == "name"}
    ranks = {keys: (keys not in names, place) for keys, place in places.items()}
    return sorted(found.items(), key=lambda item: [ranks[item[0][:end]] for end in range(1, len(item[0]) + 1)])


def read_file(file: str | Path) -> tuple[dict[Any, Any], str]:
    """Return the settings of a YAML file, and what the file is called in messages.

    Raises:
        ConfigError: if it cannot be read, or has no settings.
    """
    try:
        with Path(file).open("rb") as opened:
            content = opened.read(LARGEST_FILE + 1)
        text = content.decode()
    except FileNotFoundError:
        raise ConfigError(f"the config file {file} does not exist") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the config file {file} cannot be read: {error}") from None
    if len(content) > LARGEST_FILE:
        raise ConfigError(f"the config file {file} is larger than {LARGEST_FILE} bytes: is it one?")
    values = _parse(text, str(file)) or {}
    if not isinstance(values, dict):
        raise ConfigError(f"{file} holds a {type(values).__name__}, expected keys with values")
    return values, str(file)


def _read_override(item: str) -> tuple[dict[Any, Any], str]:
    key, equals, text = item.partition("=")
    source = f"override {short(item)}"
    if not equals:
        raise ConfigError(f"{source} is not of the form key.sub=value")
    return {key: _parse(text, source)}, source


def _parse(text: str, source: str) -> Any:
    try:
        return parse(text)
    except ValueError as error:
        raise ConfigError(f"{source} is not valid YAML: {error}") from None


def _walk(values: dict[Any, Any], above: Keys, source: str) -> Iterator[tuple[Keys, Any]]:
    for key, value in values.items():
        if not isinstance(key, str) or not all(key.split(".")):
            raise ConfigError(f"{source}: expected a name as the key, found {short(key)}")
        keys = (*above, *key.split("."))
        if isinstance(value, dict) and value:
            yield from _walk(value, keys, source)
        else:
            yield keys, value
