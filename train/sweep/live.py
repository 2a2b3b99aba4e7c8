"""What is seen of a sweep while it trains: one table on a terminal, lines elsewhere."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING, Any

from featurestore.shared.command import describe_seconds, printable, progress
from train.running.live import epochs_of
from train.sweep.config import Variant
from train.sweep.folder import SweepFolder

if TYPE_CHECKING:
    from rich.table import Table

MOST_ROWS = 12
"""Variants that the table shows: those of which something was heard last."""


@dataclass
class Doing:
    """A variant that is trained: how many of its models are left, and what was heard of the others.

    Attributes:
        left: models that are not done.
        most: epochs of a model.
        epochs: that each of those models has passed, by fold and member.
        last: what was heard last.
        best: on dev, of all its models.
    """

    left: int
    most: int
    epochs: dict[tuple[int, int], int] = field(default_factory=dict)
    last: str = ""
    best: float = math.nan


class SweepLive:
    """Follows a sweep.

    Args:
        folder: of the sweep.
        by_path: its variants, by the folders of their runs.
        left: how many models each variant that is not done has left, by its number.
        show: shows how it is.
    """

    def __init__(
        self,
        folder: SweepFolder,
        by_path: Mapping[str, Variant],
        left: Mapping[int, int],
        show: Callable[[SweepLive], None],
    ) -> None:
        self._folder, self._by_path, self._show = folder, by_path, show
        runs = {variant.number: folder.run(variant) for variant in by_path.values() if variant.number in left}
        self._doing = {number: Doing(count, runs[number].config.optim.most_epochs) for number, count in left.items()}
        self.variants, self._start, self._passed = len(left), time.monotonic(), 0.0
        self.done = self.failed = 0
        self._lock = Lock()  # epochs are told by a thread of dask's

    def epoch(self, reached: dict[str, Any]) -> None:
        """Note what a model has reached, also in the folder."""
        variant = self._by_path[reached["run"]]
        with self._lock:
            self._folder.note_epoch(variant, reached)
            doing = self._doing.pop(variant.number, None)
            if doing is None:  # another of its models has failed
                return
            self._doing[variant.number] = doing  # the last one
            model = reached["fold"], reached["member"]
            doing.epochs[model] = epochs_of(reached, doing.most)
            self._passed += 1 / doing.most
            doing.last = f"fold {reached['fold']}, epoch {reached['epoch']}"
            if not math.isnan(reached["dev"]):
                doing.best = max(reached["dev"], doing.best) if doing.best == doing.best else reached["dev"]
            self._show(self)

    def model_done(self, variant: Variant, fold: int, member: int) -> None:
        """Note that a model is done."""
        with self._lock:
            if doing := self._doing.get(variant.number):
                doing.left -= 1
                doing.epochs.pop((fold, member), None)

    def variant_done(self, variant: Variant, failed: bool = False) -> None:
        """Note that nothing more will be heard of a variant."""
        with self._lock:
            if self._doing.pop(variant.number, None):
                self.done, self.failed = self.done + (not failed), self.failed + failed
                self._show(self)

    @property
    def summary(self) -> str:
        """How far it is, and the time that is left where no model stops early."""
        waiting = self._doing.values()
        left = sum(doing.left - sum(doing.epochs.values()) / doing.most for doing in waiting)
        failed = f", {self.failed} failed" if self.failed else ""
        text = f"{self.done} of {self.variants} variants{failed}"
        if not self._passed:
            return text
        seconds = (time.monotonic() - self._start) * left / self._passed
        return f"{text}, at most {describe_seconds(seconds)} left"

    @property
    def line(self) -> str:
        """How far it is, and what was heard last."""
        heard = [(number, doing) for number, doing in self._doing.items() if doing.last]
        if not heard:
            return self.summary
        number, doing = heard[-1]
        return f"{self.summary}; {number}: {doing.last}, best on dev {doing.best:.3f}"

    def table(self) -> Table:
        """Return the variants of which something was heard last."""
        from rich.table import Table

        table = Table(
            "variant", "settings", "models left", "at", "best on dev", title=self.summary, title_justify="left"
        )
        heard = [(number, doing) for number, doing in self._doing.items() if doing.last]
        for number, doing in sorted(heard[-MOST_ROWS:]):
            name = printable(self._folder.variant(number).name)
            table.add_row(str(number), name, str(doing.left), doing.last, f"{doing.best:.3f}")
        return table


@contextmanager
def following(folder: SweepFolder, by_path: Mapping[str, Variant], left: Mapping[int, int]) -> Iterator[SweepLive]:
    """Give out what follows a sweep: a live table on a terminal, elsewhere a line every ten seconds."""
    from rich.console import Console
    from rich.live import Live

    console = Console(stderr=True, markup=False)
    if not console.is_terminal:
        with progress("sweep") as update:
            yield SweepLive(folder, by_path, left, lambda live: update(live.done, max(live.variants, 1), live.line))
        return
    with Live(console=console, transient=True, redirect_stdout=sys.stdout.isatty()) as shown:
        yield SweepLive(folder, by_path, left, lambda live: shown.update(live.table()))
