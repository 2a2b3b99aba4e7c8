"""Report why utterances were left out, failed or were flagged: few lines on screen, all of them in a file."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from featurestore.shared.command import say

FEW, EXAMPLES = 5, 3
"""So many utterances with one reason are named one by one; of more, so many as examples."""
VARIES = re.compile(r"'[^']*'|\S*/\S*|\S*\d\S*")
"""What may differ between reasons of one kind: texts in quotes, paths, and words with numbers."""


@dataclass(frozen=True)
class Reasons:
    """Utterances with the same reason but for paths and numbers: each reason by key, and the names."""

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
    """Return utterances grouped by the kind of their reason, the most frequent first.

    Args:
        reasons: by the names of utterances, or by ``NAME (FEATURE)``.
        features: the names of all features.

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
    """Print what happened to utterances, and why; if that is shortened, all of it is written to a file.

    Args:
        store: its path; the file lies beside it.
        lists: the reasons as `group` takes them, by what happened to the utterances, e.g. ``left out``.
        features: the names of all features.
    """
    features = list(features)
    kinds = [(what, one) for what, reasons in lists.items() for one in group(reasons, features)]
    for what, one in kinds:
        for line in one.lines():
            say(f"{what}: {line}")
    if any(one.many for _, one in kinds):
        say(write_list(store, lists))


def write_list(store: str, lists: Mapping[str, Mapping[str, str]]) -> str:
    """Write the lists of `say_reasons` beside a store, and return a line that says where they are, or why not."""
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
