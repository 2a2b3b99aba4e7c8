"""The folder of a sweep: what varies, and the folder of a run for each variant."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from shlex import join
from typing import Any

import pandas as pd

from featurestore.shared.command import printable
from featurestore.shared.errors import SerError
from train.reading.corpora import AnyStore, open_stores
from train.running.folder import RunFolder
from train.running.live import epoch_line
from train.shared.files import append_line, read_note, write_whole
from train.sweep.config import SweepConfig, Variant, variants_of, words_of

FILE = "sweep.json"
FAILED = "failed.json"
"""In the folder of a variant that cannot be trained: why."""
GIVEN_UP = "given_up.json"
"""In the folder of a variant that a search gave up: why."""
EPOCHS = "epochs.jsonl"
"""In the folder of a sweep: a line for each epoch of each model, as it was reached."""
EPOCH = ("variant", "fold", "member", "again", "epoch", "loss", "dev", "read", "train", "select")
"""What such a line holds; ``read``, ``train`` and ``select`` are seconds."""


class SweepFolder:
    """A folder of a sweep.

    Args:
        path: of the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._runs, self._stores = path, dict[int, RunFolder](), dict[tuple[str, ...], AnyStore]()

    def write(self, config: SweepConfig, stores: list[str]) -> None:
        """Write what the sweep is."""
        variants = [asdict(variant) for variant in variants_of(config)]
        note = {"stores": stores, "config": config.to_dict(), "variants": variants}
        write_whole(self.path / FILE, json.dumps(note, indent=1, ensure_ascii=False) + "\n")

    @cached_property
    def note(self) -> dict[str, Any]:
        """What ``sweep.json`` holds.

        Raises:
            SerError: if it is no sweep, or damaged.
        """
        file = self.path / FILE
        if not file.is_file():
            raise SerError(f"{self.path} is no sweep: it has no {FILE}")
        return read_note(file, stores=list, variants=list)

    @cached_property
    def config(self) -> SweepConfig:
        """Its settings."""
        return SweepConfig.model_validate(self.note["config"])

    @cached_property
    def variants(self) -> list[Variant]:
        """Its variants, as they were when it began."""
        found = self.note["variants"]
        return [Variant(one["number"], one["levels"], tuple(one["settings"])) for one in found]

    def variant(self, number: int) -> Variant:
        """Return the variant of a number; in a search there are numbers that none has."""
        return next(variant for variant in self.variants if variant.number == number)

    def add(self, variant: Variant) -> None:
        """Write that there is another variant."""
        note = {**self.note, "variants": [*self.note["variants"], asdict(variant)]}
        write_whole(self.path / FILE, json.dumps(note, indent=1, ensure_ascii=False) + "\n")
        kept = ("path", "_runs", "_stores")
        self.__dict__ = {name: self.__dict__[name] for name in kept}  # what was read is read anew

    def store(self, variant: Variant) -> AnyStore:
        """Return the store of a variant, or the stores as one."""
        paths = tuple(variant.stores(self.note["stores"]))
        if paths not in self._stores:
            self._stores[paths] = open_stores(list(paths))
        return self._stores[paths]

    def run(self, variant: Variant) -> RunFolder:
        """Return the run of a variant."""
        return self._runs.setdefault(variant.number, RunFolder(self.path / "variants" / f"{variant.number:04d}"))

    def command(self, variant: Variant) -> str:
        """Return the command that makes the variant alone."""
        stores = [word for store in variant.stores(self.note["stores"]) for word in ("--store", store)]
        return printable(join(["ser-train", *stores, *words_of(self.config, variant)]))

    def note_epoch(self, variant: Variant, reached: dict[str, Any]) -> None:
        """Keep what a model of a variant has reached in an epoch, and what the time went into."""
        line = epoch_line({"variant": variant.number, **reached})
        append_line(self.path / EPOCHS, line.rstrip())

    def epochs(self) -> pd.DataFrame:
        """Return a row for each epoch that any model has passed, also those that were lost with a process."""
        file = self.path / EPOCHS
        lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
        return pd.DataFrame([*_readable(lines)], columns=[*EPOCH])

    def give_up(self, variant: Variant, why: str) -> None:
        """Note that a variant is not trained to its end."""
        write_whole(self.run(variant).path / GIVEN_UP, json.dumps({"why": why}) + "\n")

    def given_up(self, variant: Variant) -> str:
        """Return why a variant was given up; empty if it was not."""
        return self._why(variant, GIVEN_UP)

    def failure(self, variant: Variant) -> str:
        """Return why a variant failed; empty if it did not."""
        return self._why(variant, FAILED)

    def _why(self, variant: Variant, name: str) -> str:
        file = self.run(variant).path / name
        return str(read_note(file, why=str)["why"]) if file.is_file() else ""


def _readable(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Yield what the lines hold; one that a killed process left unfinished is passed over."""
    for line in lines:
        try:
            yield json.loads(line)
        except ValueError:
            continue
