"""The command ser-sweep: many variants of a training config over one store.

ser-sweep --store stores/emotale.zarr --config configs/sweep/fusion_and_loss.yaml
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from featurestore.shared.command import INCOMPLETE, run, say, say_table
from featurestore.shared.config import load
from featurestore.shared.errors import ConfigError

if TYPE_CHECKING:
    import pandas as pd

app = App(name="ser-sweep", version_flags=[], default_parameter=Parameter(negative=()))


@app.default
def main_command(
    *overrides: Annotated[str, Parameter(allow_leading_hyphen=False)],
    store: tuple[str, ...] = (),
    config: tuple[Path, ...] = (),
    runs: Path = Path("runs"),
    plan: bool = False,
    workers: int | None = None,
    scheduler: str | None = None,
) -> int:
    """Train all variants of a config, each as ser-train trains it, and say what they reach beside each other.

    Args:
        overrides: Any setting of the sweep as KEY=VALUE: settings.optim.epochs=5 sample=20
        store: The feature store that ser-extract wrote, or its URL; given more than once, the stores of several
            datasets.
        config: YAML file with settings, and the factors that vary; given more than once, the last one wins.
        runs: Where the folder of the sweep goes: RUNS/DATASET/sweep/NAME/exp_N, by the name of the first config.
        plan: Say which variants there are, and what they would read and take, measured on a few steps; train nothing.
        workers: Processes of one thread each; the results are the same with any number.
        scheduler: The address of a dask scheduler whose workers do the work instead.
    """
    from train.sweep.config import SweepConfig, as_sample, check_settings, variants_of

    asked = load(SweepConfig, config, overrides)
    check_settings(asked)
    variants = variants_of(as_sample(asked))
    if not all(one.stores(store) for one in variants):
        raise ConfigError("--store is missing: expected the feature store that ser-extract wrote, or its URL")
    if plan:
        from train.sweep.planning import plan_lines

        say_table(("number", "variant"), [(str(one.number), one.name) for one in variants])
        for line in plan_lines(asked, list(store), workers):
            say(line)
        return 0
    from train.sweep.running import begin

    return _go_on(begin(asked, list(store), runs, config[0].stem if config else "sweep"), workers, scheduler)


@app.command
def resume(sweep: Path, *, workers: int | None = None, scheduler: str | None = None) -> int:
    """Go on with a sweep that was interrupted: what is trained is not trained again.

    Args:
        sweep: Its folder.
        workers: Processes of one thread each.
        scheduler: The address of a dask scheduler whose workers do the work instead.
    """
    return _go_on(sweep, workers, scheduler)


@app.command
def status(sweep: Path) -> int:
    """Say what the variants of a sweep have reached, also while it runs.

    Args:
        sweep: Its folder.
    """
    from train.sweep.folder import SweepFolder
    from train.sweep.leaderboard import STATES, leaderboard, with_progress

    folder = SweepFolder(sweep)
    table = with_progress(leaderboard(folder), folder)
    _say_leaderboard(table, f"ser-sweep report {sweep} writes all of them")
    counts = table["state"].value_counts()
    say(", ".join(f"{counts.get(state, 0)} {state}" for state in STATES))
    return 0


@app.command
def report(sweep: Path) -> int:
    """Make the report of a sweep anew from its files, also while it runs: HTML, CSV and LaTeX.

    Args:
        sweep: Its folder.
    """
    from train.sweep.folder import SweepFolder
    from train.sweep.report import write_report

    say(f"report: {write_report(SweepFolder(sweep))}")
    return 0


def _go_on(path: Path, workers: int | None, scheduler: str | None) -> int:
    from train.shared.files import owned
    from train.sweep.folder import SweepFolder
    from train.sweep.leaderboard import write_leaderboard
    from train.sweep.methods import found_lines
    from train.sweep.report import write_report
    from train.sweep.running import run_sweep
    from train.sweep.search import run_search

    folder = SweepFolder(path)
    try:
        with owned(path):
            failed = (run_search if folder.config.search else run_sweep)(folder, workers, scheduler, say)
    except KeyboardInterrupt:
        say(f"interrupted: ser-sweep resume {path} goes on from the last epoch of each model")
        raise
    table = write_leaderboard(folder)
    _say_leaderboard(table, f"all of them are in {path / 'leaderboard.csv'}")
    for line in found_lines(folder, table):
        say(line)
    say(f"report: {write_report(folder)}")
    say(f"sweep: {path}")
    return INCOMPLETE if failed else 0


def _say_leaderboard(table: pd.DataFrame, others: str) -> None:
    """Print the best variants, and where the others are."""
    from train.sweep.leaderboard import leaderboard_lines

    header, *rows = leaderboard_lines(table)
    say_table(header, rows)
    if len(rows) < len(table):
        say(f"and {len(table) - len(rows)} more variants: {others}")


def main() -> None:
    """Run ser-sweep."""
    run(app, "interrupted")
