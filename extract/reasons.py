"""What is said of many utterances: few lines on the screen, all of them in a file."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from featurestore.shared.command import say

FEW, EXAMPLES = 5, 3
"""Utterances of one reason that are named one by one; examples of more."""
VARIES = re.compile(r"'[^']*'|\S*/\S*|\S*\d\S*")
"""What is not the same in reasons of one kind: texts in quotes, paths, and words with numbers."""


@dataclass(frozen=True)
class Reasons:
    """One reason, but for paths and numbers, and the utterances that it is of, each with its own."""

    of: dict[str, str]
    utterances: tuple[str, ...]

    @property
    def many(self) -> bool:
        """Whether they are too many to be named one by one."""
        return len(self.utterances) > FEW

    def __str__(self) -> str:
        (name, first), *others = self.of.items()
        if not others:
            return f"{name}: {first}"
        more = "" if len(self.utterances) <= EXAMPLES else " …"
        return f"{len(self.utterances)} utterances ({', '.join(self.utterances[:EXAMPLES])}{more}): e.g. {first}"

    def lines(self) -> list[str]:
        """Return a line for each utterance, or one for many."""
        if self.many:
            return [str(self)]
        return [f"{name}: {reason}" for name, reason in self.of.items()]


def group(reasons: Mapping[str, str], features: Iterable[str] = ()) -> list[Reasons]:
    """Return utterances by the kind of their reason, the most frequent first.

    Args:
        reasons: by the names of utterances, or by ``NAME (FEATURE)``.
        features: that there are.

    >>> [str(one) for one in group({"a": "no file /x/a.wav", "b": "no file /x/b.wav", "c": "silent"})]
    ['2 utterances (a, b): e.g. no file /x/a.wav', 'c: silent']
    """
    kinds: dict[str, dict[str, str]] = {}
    ends, names = [f" ({feature})" for feature in features], {}
    for key, reason in reasons.items():
        names[key] = next((key.removesuffix(end) for end in ends if key.endswith(end)), key)
        kinds.setdefault(_kind(names[key], reason), {})[key] = reason
    found = [Reasons(of, tuple(dict.fromkeys(names[key] for key in of))) for of in kinds.values()]
    return sorted(found, key=lambda one: len(one.utterances), reverse=True)


def _kind(name: str, reason: str) -> str:
    """Return a reason without numbers, paths, texts in quotes, and the name of the utterance or its file."""
    words = (word.strip("'\":;,.()") for word in VARIES.sub("", reason).split())
    return " ".join(word for word in words if name not in (word, word.rpartition(".")[0]))


def say_reasons(store: str, lists: Mapping[str, Mapping[str, str]], features: Iterable[str]) -> None:
    """Print what happened to utterances, and why; where that is shortened, all of it is written beside the store.

    Args:
        store: its path.
        lists: the reasons as `group` takes them, by what happened to the utterances, e.g. ``left out``.
        features: that there are.
    """
    features = list(features)
    kinds = [(what, one) for what, reasons in lists.items() for one in group(reasons, features)]
    for what, one in kinds:
        for line in one.lines():
            say(f"{what}: {line}")
    if any(one.many for _, one in kinds):
        say(write_list(store, lists))


def write_list(store: str, lists: Mapping[str, Mapping[str, str]]) -> str:
    """Write such lists beside a store, and return where they are, or why they are not."""
    file = Path(f"{store.rstrip('/')}.reasons.csv")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("w", encoding="utf-8", newline="") as stream:
            rows = csv.writer(stream)
            rows.writerow(["name", "what", "reason"])
            rows.writerows([name, what, reason] for what, found in lists.items() for name, reason in found.items())
    except OSError as error:
        return f"the list of all could not be written to {file}: {os.strerror(error.errno or 0)}"
    return f"all are listed in {file}"
