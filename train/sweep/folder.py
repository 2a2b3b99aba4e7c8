"""The folder of a sweep: what varies, and the folder of a run for each variant."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from shlex import join
from typing import Any

from featurestore.command import printable
from featurestore.errors import SerError
from train.corpora import AnyStore, open_stores
from train.files import write_whole
from train.folder import RunFolder
from train.sweep.config import SweepConfig, Variant, variants_of, words_of

FILE = "sweep.json"
FAILED = "failed.json"
"""In the folder of a variant that cannot be trained: why."""


class SweepFolder:
    """A folder of a sweep.

    Args:
        path: of the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

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
        try:
            note = json.loads(file.read_bytes())
            return {**note, "stores": list(note["stores"]), "variants": list(note["variants"])}
        except (ValueError, KeyError, TypeError) as error:
            raise SerError(f"{file} is damaged: {error}") from None

    @cached_property
    def config(self) -> SweepConfig:
        """Its settings."""
        return SweepConfig.model_validate(self.note["config"])

    @cached_property
    def variants(self) -> list[Variant]:
        """Its variants, as they were when it began."""
        found = self.note["variants"]
        return [Variant(one["number"], one["levels"], tuple(one["settings"])) for one in found]

    def open_store(self) -> AnyStore:
        """Return the store, or the stores as one."""
        return open_stores(self.note["stores"])

    def run(self, variant: Variant) -> RunFolder:
        """Return the run of a variant."""
        return RunFolder(self.path / "variants" / f"{variant.number:04d}")

    def command(self, variant: Variant) -> str:
        """Return the command that makes the variant alone."""
        stores = [word for store in self.note["stores"] for word in ("--store", store)]
        return printable(join(["ser-train", *stores, *words_of(self.config, variant)]))

    def failure(self, variant: Variant) -> str:
        """Return why a variant failed; empty if it did not."""
        file = self.run(variant).path / FAILED
        return str(json.loads(file.read_bytes())["why"]) if file.is_file() else ""
