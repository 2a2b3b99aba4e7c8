"""The command ser-train: from a feature store to a trained model and honest numbers.

ser-train --store stores/emotale.zarr fusion=attention splits=kfold splits.k=6
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from featurestore.shared.command import INCOMPLETE, run, say, say_table
from featurestore.shared.config import load
from featurestore.shared.errors import ConfigError
from featurestore.shared.listing import say_list
from train.commands.curves import register
from train.commands.protocol import app as protocol_app

app = App(name="ser-train", version_flags=[], default_parameter=Parameter(negative=()))
app.command(protocol_app)
register(app)


@app.default
def main_command(
    *overrides: Annotated[str, Parameter(allow_leading_hyphen=False)],
    store: tuple[str, ...] = (),
    config: tuple[Path, ...] = (),
    workers: int | None = None,
    scheduler: str | None = None,
    list_: Annotated[tuple[str, ...] | None, Parameter(name="--list", consume_multiple=True)] = None,
) -> int:
    """Train a layer-weighted fusion model on stored features, and test it once, on every fold.

    Writes runs/DATASET/FEATURE/METHOD/exp_N with the models, predictions, figures and plots. By default: V, A and D
    together, pitch attending to the hidden states, speaker-independent folds, against a ridge on the same folds.

    Args:
        overrides: Any setting as KEY=VALUE: fusion=concat targets=[V,A] splits=leave_one_out optim.lr=3e-4
        store: The feature store that ser-extract wrote, or its URL; given more than once, the stores of several
            datasets, which splits=datasets divides.
        config: YAML file with settings; given more than once, the last one wins.
        workers: Processes of one thread each; the results are the same with any number.
        scheduler: The address of a dask scheduler whose workers do the work instead.
        list_: Print what can be set, or all of a setting, section, kind of parts or part: --list optim fusion.attention
    """
    from train.config import TrainConfig

    if list_ is not None:
        say_list(TrainConfig, list_)
        return 0
    if not store:
        raise ConfigError("--store is missing: expected the feature store that ser-extract wrote, or its URL")
    from train.reading.corpora import open_stores
    from train.running.run import run as train

    asked = {"workers": workers, "scheduler": scheduler}
    given = [f"{key}={value}" for key, value in asked.items() if value is not None]
    folder, _ = train(open_stores(store), load(TrainConfig, config, [*overrides, *given]), say)
    say(f"run: {folder}")
    return 0


@app.command
def resume(run: Path) -> int:
    """Go on with a run that was interrupted, from the last epoch of each of its models.

    Args:
        run: The folder of the run.
    """
    from train.running.run import resume as go_on

    folder, _ = go_on(run, say)
    say(f"run: {folder}")
    return 0


@app.command
def matrix(
    *overrides: Annotated[str, Parameter(allow_leading_hyphen=False)],
    store: tuple[str, ...],
    config: tuple[Path, ...] = (),
    workers: int | None = None,
) -> int:
    """Train on each of several stores, and test on itself and on every other one: a table and heat maps.

    Args:
        overrides: Any setting of the runs as KEY=VALUE: targets=[emotion] categories=four
        store: The stores, each given with --store.
        config: YAML file with settings; given more than once, the last one wins.
        workers: Processes of one thread each.
    """
    from train.commands.matrix import cross_matrix, matrix_lines
    from train.config import TrainConfig

    given = [f"workers={workers}"] if workers is not None else []
    folder, found = cross_matrix(store, load(TrainConfig, config, [*overrides, *given]), say)
    header, *rows = matrix_lines(found)
    say_table(header, rows)
    say(f"matrix: {folder}")
    return 0


@app.command
def nested(
    *overrides: Annotated[str, Parameter(allow_leading_hyphen=False)],
    store: tuple[str, ...],
    choose: tuple[str, ...],
    config: tuple[Path, ...] = (),
    all_: Annotated[bool, Parameter(name="--all")] = False,
    workers: int | None = None,
) -> int:
    """Choose among configurations by inner folds, and test each outer fold once, by what was chosen for it.

    Args:
        overrides: Any setting of all of them as KEY=VALUE: splits={name: kfold, k: 6}, the outer folds.
        store: The feature store; given more than once, the stores of several datasets.
        choose: The settings of one of them, each given with --choose: --choose fusion=none --choose "fusion=concat
            width=64"
        config: YAML file with settings of all; given more than once, the last one wins.
        all_: Also test all of them on all outer folds, to see what picking by the test parts would give.
        workers: Processes of one thread each.
    """
    from train.commands.nested import nested_selection, selection_lines
    from train.config import TrainConfig
    from train.reading.corpora import open_stores

    given = [f"workers={workers}"] if workers is not None else []
    configs = {words: load(TrainConfig, config, [*overrides, *given, *shlex.split(words)]) for words in choose}
    folder, found = nested_selection(open_stores(store), configs, say, all_)
    header, *rows = selection_lines(found)
    say_table(header, rows)
    say(f"nested: {folder}")
    return 0


@app.command
def maps(name: str | None = None, *, store: tuple[str, ...] = ()) -> int:
    """Print the maps of categories, or what one of them does with each category of some stores, and drops.

    Args:
        name: The map, or a YAML file.
        store: The stores, whose utterances are counted.
    """
    from train.maps import names, read_map
    from train.reading.corpora import open_stores

    if name is None:
        say_table(("map", "version", "column", "categories", "datasets"), [read_map(one).row for one in names()])
        return 0
    found = read_map(name)
    if store:
        opened = open_stores(store)
        counted = found.report(opened.utterances, opened.dataset)
        rows = [(owner, word, category or "left out", str(count)) for owner, word, category, count in counted]
        say_table(("dataset", found.column, "category", "utterances"), rows)
        return 0
    words = [(owner, word, category) for owner, said in found.datasets.items() for word, category in said.items()]
    say_table(("dataset", found.column, "category"), words)
    return 0


@app.command
def predict(run: Path, *, store: tuple[str, ...], out: Path | None = None, device: str | None = None) -> int:
    """Predict a store with the models of a run.

    Utterances that the run tested are predicted by the models of their fold, exactly as the run did; others by all of
    its models, averaged.

    Args:
        run: The folder of the run.
        store: The feature store, or its URL: with the features of the run, in any data type; given more than once, the
            stores of several datasets, as the run had them.
        out: The CSV file; what it holds is printed when absent.
        device: cpu, cuda …; that of the run when absent.
    """
    from train.commands.predict import write_predictions

    return INCOMPLETE if write_predictions(run, store, out, device, say) else 0


@app.command
def compare(*runs: Path, seeds: int = 1, against: Literal["all", "first"] = "all", out: Path | None = None) -> int:
    """Say which runs are better on the same test parts, by how much, and which cannot be told apart.

    The error of a difference is that over speakers, and over trainings: the members of a run, or several runs.

    Args:
        runs: Folders of runs.
        seeds: Number of consecutive runs that are one method trained with different seeds.
        against: Compare all pairs, or the first with each other one.
        out: A folder for the figures as comparison.csv and comparison.tex.
    """
    from train.comparison.compare import compare_runs
    from train.comparison.tables import in_words, system_rows, write_comparison

    found = compare_runs(runs, seeds, against)
    say_table(*system_rows(found))
    for line in in_words(found):
        say(line)
    if out is not None:
        write_comparison(found, out)
        say(f"tables: {out / 'comparison.csv'}, {out / 'comparison.tex'}")
    return 0


def main() -> None:
    """Run ser-train."""
    run(app, "interrupted")
