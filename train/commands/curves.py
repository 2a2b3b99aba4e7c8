"""The commands of ser-train about preferences, ranks and curves.

ser-train prefer --store stores/emotale.zarr --target A --out preferences/A.csv
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App, Parameter

from featurestore.shared.command import INCOMPLETE, say

if TYPE_CHECKING:
    import pandas as pd


def register(app: App) -> None:
    """Add the commands to ser-train."""
    for command in (prefer, norm, ranks, curves, order, missing):
        app.command(command)


def prefer(
    *,
    store: str,
    target: str,
    out: Path,
    protocol: Path | None = None,
    fold: int = 0,
    part: Literal["train", "dev", "test"] = "train",
    threshold: float = 0.6,
    share: float = 0.1,
    seed: int = 31,
    only: Annotated[tuple[str, ...], Parameter(consume_multiple=True)] = (),
) -> int:
    """Write which of two utterances the raters hear more of something in, where they agree.

    Args:
        store: The feature store, or its URL, with the column ratings.
        target: What they rated, such as A; emotion=anger compares how many said anger.
        out: The CSV file: Sentence1, Sentence2, and PreferLabel, 1 if there is more in the first.
        protocol: A file of folds, whose ``part`` of ``fold`` is compared; all utterances when absent.
        fold: Its number.
        part: Of the fold.
        threshold: Share of the pairs of raters that must say the same, above a half.
        share: Of all other utterances, drawn anew for each, with which it is compared.
        seed: Of the draw.
        only: Ratings that say this, such as mode=voice.
    """
    import numpy as np

    import featurestore
    from featurestore.shared.errors import SerError
    from train.curves.preferences import prefer as compare
    from train.curves.preferences import ratings_of, without_ratings
    from train.shared.files import write_whole

    if not 0.5 < threshold <= 1 or not 0 < share <= 1:
        raise SerError(f"threshold={threshold:g} share={share:g}: expected .5 < threshold <= 1 and 0 < share <= 1")
    table = _part(featurestore.open(store).utterances, protocol, fold, part)
    ratings = ratings_of(table, target, dict(word.split("=", 1) for word in _pairs(only)))
    there = np.flatnonzero(np.isfinite(ratings).any(axis=1))
    names = [str(name) for name in table.index[there]]
    pairs, compared = compare(names, ratings[there], threshold, share, seed)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(out, pairs.to_csv(index=False))
    more = float(pairs["PreferLabel"].mean()) if len(pairs) else 0.0
    say(
        f"{out}: {len(pairs)} of {compared} pairs of {len(names)} utterances are agreed on "
        f"({len(pairs) / compared:.0%}), {more:.0%} of them with more {target} in the first"
    )
    skipped = without_ratings([str(name) for name in table.index], ratings, target)
    for line in skipped:
        say(line)
    return INCOMPLETE if skipped else 0


def norm(
    *,
    store: str,
    feature: str,
    out: Path,
    layer: int | None = None,
    protocol: Path | None = None,
    fold: int = 0,
    part: Literal["train", "dev", "test"] = "train",
) -> int:
    """Write the mean and deviation of each channel of a feature, for streams.NAME.front.norm, and of A, D and V.

    Those of A, D and V are for the published code: ser-train never reads them, its labels are on their declared range.

    Args:
        store: The feature store, or its URL.
        feature: Of the store.
        out: A folder for feat_norm_means.mat, feat_norm_stds.mat, act_norm_means.mat and so on.
        layer: Of the feature, if it has more than one.
        protocol: A file of folds, whose ``part`` of ``fold`` is looked at; all utterances when absent.
        fold: Its number.
        part: Of the fold.
    """
    import featurestore
    from featurestore.shared.errors import SerError
    from train.reading.labels import some
    from train.reading.norm import write_norm
    from train.streams import Stream, source_of

    opened = featurestore.open(store)
    source = source_of(Stream(feature=feature, layers=layer), opened, {})
    if source.count != 1:
        raise SerError(f"{feature} has {source.count} layers, expected one: choose it with --layer N")
    table = _part(opened.utterances, protocol, fold, part)
    lacking = [name for name in table.index if name in source.part.failed]
    table = table.drop(index=lacking)
    files = write_norm(out, source.moments(list(table.index)), table)
    say(f"{out}: {', '.join(file.name for file in files)}, of {len(table)} utterances")
    if lacking:
        say(f"skipped: {some(lacking)}: without {feature}")
    return INCOMPLETE if lacking else 0


def ranks(run: Path, *, out: Path | None = None) -> int:
    """Write in which order the rankers of a run put the chunks of each of its utterances, for the task sequence.

    Args:
        run: The folder of a run with the task ranking and pooling=chunks.
        out: A folder for fold_K/TARGET.json, by the models of each fold; ranks in that of the run when absent.
    """
    from train.running.curve_results import write_ranks

    write_ranks(run, out or run / "ranks", say)
    return 0


def curves(
    run: Path,
    *,
    store: tuple[str, ...],
    out: Path,
    draw: Annotated[tuple[str, ...], Parameter(consume_multiple=True)] = (),
    device: str | None = None,
) -> int:
    """Write how the targets of a run move within each utterance of a store, with times in seconds.

    Args:
        run: The folder of a run with pooling=chunks and the task sequence or ranking.
        store: The feature store, or its URL: with the features of the run, in any data type; given more than once, the
            stores of several datasets, as the run had them.
        out: A folder for curves.csv, the pictures, and curves.html, which says the time under the mouse.
        draw: Utterances that are drawn, below their level and pitch if the store has intensity or logmel, and pitch.
        device: cpu, cuda …; that of the run when absent.
    """
    from train.evaluation.curve_tables import FILE
    from train.plots.curve_plots import draw_curves
    from train.reading.corpora import open_stores
    from train.running.opened import Run
    from train.shared.files import write_whole

    opened = open_stores(store)
    table = Run.open(run, device).curves(opened, list(draw) or None)
    out.mkdir(parents=True, exist_ok=True)
    write_whole(out / FILE, table.to_csv())
    draw_curves(out, opened, {name: table.loc[[name]] for name in draw})
    say(f"{out / FILE}: {table.index.get_level_values('name').nunique()} utterances")
    return 0


def order(*runs: Path, threshold: float = 0.6, out: Path | None = None) -> int:
    """Say how well runs put utterances in order, rankers and what predicts numbers beside each other.

    By how many of the pairs that raters agree on are ordered so, and Spearman and Kendall with the consensus, over the
    test parts of all folds together, with 95 % intervals over speakers.

    Args:
        runs: Folders of runs on one store with the same folds; each is compared with the first.
        threshold: Share of the pairs of raters that must say the same of two utterances, above a half.
        out: A CSV file for the figures.
    """
    from featurestore.shared.command import say_table
    from featurestore.shared.errors import SerError
    from train.comparison.compare import short_names
    from train.comparison.orders import order_table
    from train.shared.files import write_whole

    if not runs:
        raise SerError("found no run, expected the folders of one or more")
    if not 0.5 < threshold <= 1:
        raise SerError(f"threshold={threshold:g}: expected .5 < threshold <= 1")
    table = order_table(runs, threshold)
    names = dict(zip(map(str, runs), short_names(runs), strict=True))
    rows = [
        (row["target"], row["metric"], names[row["run"]], _with_ends(row, "value", "low", "high"),
         _with_ends(row, "less_first", "less_first_low", "less_first_high") if row["run"] != str(runs[0]) else "")
        for _, row in table.iterrows()
    ]  # fmt: skip
    say_table(("target", "metric", "run", "value", "less the first"), rows)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_whole(out, table.to_csv(index=False))
        say(f"{out}: {len(table)} figures")
    return 0


def missing(*runs: Path, out: Path | None = None) -> int:
    """Test runs of several streams again with 0 to 100 % of each missing: of whole utterances, and parts of each.

    Writes missing.csv, with 95 % intervals over speakers, and the figure plots/missing.

    Args:
        runs: The folder of a run with fusion=multiscale, or of several with the same folds, to be drawn side by side.
        out: A folder for what is written; that of the run when absent.
    """
    from featurestore.shared.command import say_table
    from featurestore.shared.errors import SerError
    from train.commands.missing import RATES, missing_grid, plot_missing
    from train.comparison.compare import short_names
    from train.shared.files import write_whole

    if not runs or (len(runs) > 1 and out is None):
        raise SerError(f"found {len(runs)} runs, expected the folder of one, or of several with --out DIR")
    folder, names = out or runs[0], dict(zip(map(str, runs), short_names(runs), strict=True))
    grid = missing_grid(*runs)
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / "missing.csv", grid.to_csv(index=False))
    plot_missing(folder / "plots", grid)
    rows = [
        (names[str(run)], *map(str, key), *(f"{value:+.3f}" for value in of["value"]))
        for (run, *key), of in grid.groupby(["run", "stream", "missing", "target", "metric"], sort=False)
    ]
    say_table(("run", "stream", "missing", "target", "metric", *(f"{rate:.0%}" for rate in RATES)), rows)
    say(f"{folder / 'missing.csv'}: {len(grid)} figures with 95 % intervals over speakers")
    return 0


def _with_ends(row: pd.Series, value: str, low: str, high: str) -> str:
    return f"{row[value]:+.3f} [{row[low]:+.3f}, {row[high]:+.3f}]"


def _pairs(only: tuple[str, ...]) -> tuple[str, ...]:
    from featurestore.shared.errors import SerError

    odd = [word for word in only if "=" not in word]
    if odd:
        raise SerError(f"--only {odd[0]}: expected KEY=WORD, such as mode=voice")
    return only


def _part(table: pd.DataFrame, protocol: Path | None, fold: int, part: str) -> pd.DataFrame:
    """Return the rows of a part of a fold; all of them without a protocol."""
    from featurestore.shared.errors import SerError
    from train.examples.protocol import read_protocol
    from train.reading.labels import some

    if protocol is None:
        return table
    folds = read_protocol(protocol).folds
    if not 0 <= fold < len(folds):
        raise SerError(f"{protocol} has {len(folds)} folds, numbered from 0: found --fold {fold}")
    names = getattr(folds[fold], part)
    absent = [name for name in names if name not in table.index]
    if absent:
        raise SerError(f"{protocol}: {some(absent)} of fold {fold} are not in the store")
    return table.loc[names]
