"""How often ser-train compare tells runs apart that differ by chance alone, and whether it finds what it says it finds.

python tests/benchmarks/null_study.py --store stores/emotale.zarr --folder runs/null

Trains small models that differ in their seeds, on the labels and on shuffled ones, and compares random pairs of them,
of groups of them, and of averages of them. Then one of two groups is made better by a known difference, its residuals
being shrunk, and studies are drawn from speakers and seeds: how often the difference is found, and how often the
interval holds it. Runs that lie in the folder are not trained again.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from cyclopts import App
from scipy.optimize import brentq

import featurestore
from featurestore.access.writer import StoreWriter
from featurestore.shared.command import run, say, say_table
from featurestore.shared.config import load
from train.comparison.compare import truth_of
from train.comparison.outcomes import METRIC, Outcome, Tally, check_same_tests
from train.comparison.significance import LEVEL
from train.comparison.systems import MEAN, RESAMPLES, Difference, Reached, System, compare_systems
from train.config import TrainConfig
from train.numerics.metrics import resample_weights
from train.running.run import run as train

app = App(name="null_study", help=__doc__)
SETTINGS = ["fusion=none", "streams.speech.front=pooled", "splits.k=3", "workers=1", "baseline=false"]
HEADER = ("labels", "compared", "trainings", "t", "swaps", "folds", "called different", "interval has 0")
Drawn = tuple[Any, Any]


@app.default
def main(*, store: Path, folder: Path, seeds: int = 25, comparisons: int = 200, epochs: int = 8) -> None:
    """Train what is missing, and print the rates.

    Args:
        store: with hidden states, and V, A and D.
        folder: for runs, and a copy of the store.
        seeds: runs on each kind of labels.
        comparisons: random pairs of each kind.
        epochs: of each model.
    """
    rows = []
    for labels in ("true", "shuffled"):
        path = store if labels == "true" else shuffled(store, folder / "shuffled.zarr")
        models = Models(runs_of(path, folder / labels, seeds, epochs))
        for of, count in (("runs", 1), ("runs", 3), ("runs", 5), ("members", 3), ("members", 5)):
            found = [models.compare(*drawn, of) for drawn in draws(seeds, count, comparisons)]
            rows.append((labels, of, count, *rates(found)))
            if labels == "true" and (of, count) == ("runs", 5):
                smallest = float(np.median([one.smallest for one in found]))
                power = models.power(smallest, draws(seeds, count, comparisons))
    say_table(HEADER, rows)
    say(
        f"groups of 5 runs that truly differ by {smallest:.3f}, speakers and seeds drawn {comparisons} times: "
        f"found in {power[0]:.1%}, interval has the difference in {power[1]:.1%}"
    )


def shuffled(store: Path, copy: Path) -> Path:
    """Return a copy of the store whose labels are those of other utterances."""
    if not copy.exists():
        temporary = copy.with_name("part.zarr")
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.copytree(store, temporary)
        table = featurestore.open(temporary).utterances.copy()
        order = np.random.default_rng(0).permutation(len(table))
        for target in "VAD":
            table[target] = table[target].to_numpy()[order]
        writer = StoreWriter(temporary)
        with writer.change_at_once():
            writer.replace_table(table)
        temporary.rename(copy)
    return copy


def runs_of(store: Path, folder: Path, seeds: int, epochs: int) -> list[Path]:
    """Return the folders of a run of each seed."""
    found = []
    for seed in range(seeds):
        runs = folder / f"{seed}"
        there = list(runs.glob("*/*/*/*/metrics.json"))
        if not there:
            settings = [*SETTINGS, f"optim.epochs={epochs}", f"seed={seed}", f"runs={runs}"]
            path, _ = train(featurestore.open(store), load(TrainConfig, [], settings), lambda line: None)
            say(f"trained {path}")
        found.append(there[0].parent if there else path)
    return found


def draws(seeds: int, count: int, comparisons: int) -> list[Drawn]:
    """Return random pairs of groups of seeds that have none in common."""
    rng = np.random.default_rng(0)
    orders = [rng.permutation(seeds) for _ in range(comparisons)]
    return [(order[:count], order[count : 2 * count]) for order in orders]


def rates(found: list[Difference]) -> list[str]:
    """Return how often each test is at most 5 %, the rule tells them apart, and the interval has no difference."""
    tests = ([one.p for one in found], [one.p_swaps for one in found], [one.p_folds for one in found])
    significant = [np.array(test) <= LEVEL for test in tests]
    called = [one.verdict in ("better", "worse") for one in found]
    holding = [one.interval[0] <= 0 <= one.interval[1] for one in found]
    return [f"{np.mean(cases):.1%}" for cases in (*significant, called, holding)]


class Models:
    """Runs that differ in their seeds."""

    def __init__(self, paths: list[Path]) -> None:
        outcomes = [Outcome(path) for path in paths]
        self.truths = {target: truth_of(outcomes, target) for target in check_same_tests(outcomes)}
        self.predicted = {target: np.stack([one.predicted(target) for one in outcomes]) for target in self.truths}
        self.speakers = int(next(iter(self.truths.values())).speakers.max()) + 1
        self.weights = resample_weights(self.speakers, resamples=RESAMPLES)
        self.ratio = outcomes[0].ratio

    def compare(self, first: Any, second: Any, of: str) -> Difference:
        return self._difference(self._tallies(first, of), self._tallies(second, of))

    def _difference(self, first: list[Tally], second: list[Tally]) -> Difference:
        a, b = (
            System("", len(tallies[0].without), {MEAN: Reached(tallies, self.weights)}) for tallies in (first, second)
        )
        return compare_systems(MEAN, [(a, b)], self.speakers, self.ratio)[0]

    def _tallies(self, group: Any, of: str) -> list[Tally]:
        found = []
        for target, truth in self.truths.items():
            each = self.predicted[target][group]
            if of == "runs":
                found.append(truth.tally(list(each), []))
            else:
                others = [np.delete(each, member, axis=0).mean(axis=0) for member in range(len(each))]
                found.append(truth.tally([each.mean(axis=0)], others))
        return found

    def power(self, difference: float, drawn: list[Drawn]) -> tuple[float, float]:
        """Return how often a true difference is found, and how often the interval has it."""
        share = brentq(lambda share: self._gain(share) - difference, 0, 0.9, xtol=1e-6)
        rng, found = np.random.default_rng(1), []
        for first, second in drawn:
            speakers = rng.integers(self.speakers, size=self.speakers)
            better = [self._study(target, first, share, speakers) for target in self.truths]
            plain = [self._study(target, second, 0.0, speakers) for target in self.truths]
            found.append(self._difference(better, plain))
        told = [one.verdict == "better" for one in found]
        holding = [one.interval[0] <= difference <= one.interval[1] for one in found]
        return float(np.mean(told)), float(np.mean(holding))

    def _gain(self, share: float) -> float:
        """Return by how much all models become better, in the mean, when a share of their residuals is taken away."""
        everyone, ones = np.arange(len(next(iter(self.predicted.values())))), np.ones((1, self.speakers))
        values = [[self._shrunk(target, everyone, by).values(ones)[0] for target in self.truths] for by in (share, 0.0)]
        return float(np.mean(values[0]) - np.mean(values[1]))

    def _shrunk(self, target: str, group: Any, share: float) -> Tally:
        truth, predicted = self.truths[target], self.predicted[target][group]
        return truth.tally(list(predicted + share * (truth.labels - predicted)), [])

    def _study(self, target: str, group: Any, share: float, speakers: Any) -> Tally:
        """Return what a group reaches on speakers that are drawn."""
        tally = self._shrunk(target, group, share)
        sums = tally.sums[:, speakers]
        alone = METRIC[tally.metric](sums.sum(axis=1))
        return replace(tally, sums=sums, without=(alone.sum() - alone) / (len(alone) - 1))


if __name__ == "__main__":
    run(app)
