"""What is seen of a run while it trains: a live line, a line for each model that is done, and a file of epochs."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import Any

from featurestore.shared.command import describe_seconds, progress
from train.examples.examples import Examples
from train.running.folder import RunFolder
from train.running.work import Job
from train.shared.files import append_line
from train.shared.tensors import read_tensors


class Live:
    """Follows the models of a run.

    Args:
        folder: of the run.
        jobs: that are to be done.
        metric: that selects, by name.
        update: shows how much of how much is done, and a remark.
        log: says a line that stays.
    """

    def __init__(
        self,
        folder: RunFolder,
        jobs: Sequence[Job],
        metric: str,
        update: Callable[[float, float, str], None],
        log: Callable[[str], None],
    ) -> None:
        self._folder, self._metric, self._update, self._log = folder, metric, update, log
        self._most = folder.config.optim.most_epochs
        self._at = {job: 0 for job in jobs if job.member is not None}
        self._spent = {"read": 0.0, "train": 0.0, "select": 0.0}
        self._utterances, self._frames, self._start = 0, 0, time.monotonic()
        self._epochs = self._finished = 0
        self._lock = Lock()  # epochs are told by a thread of dask's

    def epoch(self, reached: dict[str, Any]) -> None:
        """Note what a model has reached."""
        job = Job(reached["fold"], reached["member"])
        append_line(self._folder.path / "metrics.jsonl", epoch_line(reached).rstrip())
        dev = "" if math.isnan(reached["dev"]) else f", dev {self._metric} {reached['dev']:.3f}"
        with self._lock:
            self._at[job] = epochs_of(reached, self._most)
            self._epochs += 1
            for what in self._spent:
                self._spent[what] += reached[what]
            self._utterances += reached["utterances"]
            self._frames += reached["frames"]
            self._show(f"{'again, ' if reached['again'] else ''}{job.key} epoch {reached['epoch']}{dev}")

    def done(self, job: Job) -> None:
        """Note that a job is done."""
        if job.member is None:
            return
        note = read_tensors(self._folder.model(job.key))[1]
        best, last = note["best_epoch"], len(note["history"])
        self._log(f"{job.key}: dev {self._metric} {note['best_score']:.3f} in epoch {best} of {last}")
        with self._lock:
            self._finished += 1
            self._at.pop(job, None)
            self._show(f"{job.key} done")

    def _show(self, what: str) -> None:
        total = self._finished + len(self._at)
        done = self._finished + sum(self._at.values()) / self._most
        seconds, spent = max(time.monotonic() - self._start, 1e-3), sum(self._spent.values()) or 1.0
        speed = f"{self._utterances / seconds:.0f} utterances/s, {self._frames / seconds:.0f} frames/s"
        shares = ", ".join(f"{part / spent:.0%} {name}" for name, part in self._spent.items())
        text = f"{what}, {speed} ({shares})"
        if self._epochs:
            left = seconds * (total - done) * self._most / self._epochs
            text += f", at most {describe_seconds(left)} left"
        self._update(done, total, text)


def epochs_of(reached: Mapping[str, Any], most: int) -> int:
    """Return how many of its most epochs a model has passed; the second half are those of ``refit``."""
    return int(reached["epoch"]) + (most // 2 if reached["again"] else 0)


def epoch_line(reached: dict[str, Any]) -> str:
    """Return what a model has reached in an epoch as a line of JSON, which has no word for what is no number."""
    plain = {
        key: value
        for key, value in reached.items()
        if key != "run" and not (isinstance(value, float) and math.isnan(value))
    }
    return json.dumps(plain) + "\n"


@contextmanager
def following(folder: RunFolder, jobs: Sequence[Job], examples: Examples, log: Callable[[str], None]) -> Iterator[Live]:
    """Give out what follows the models of a run, with a live line on a terminal."""
    metric = "/".join(dict.fromkeys(examples.metrics.values()))
    with progress("train") as update:
        yield Live(folder, jobs, metric, update, log)
