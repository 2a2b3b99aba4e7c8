"""Every corpus on every other: models trained on each dataset, tested on itself by its folds and on all the others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from featurestore.shared.errors import SerError
from train.comparison.table_figures import check_tables, read_table, table_figures
from train.config import TrainConfig
from train.numerics.metrics import interval
from train.plots.drawing import as_label, blank, save
from train.reading.corpora import AnyStore, Corpora, open_stores
from train.running.folder import make_run_folder
from train.running.run import Say, run
from train.shared.files import write_whole
from train.splits.datasets import Datasets

ADAPT = 5
"""Parts of the speakers of a dataset, one of which tests a model that is adapted to the others."""
FIGURE = ["train", "test", "target", "metric", "value", "low", "high", "utterances", "run"]


def cross_matrix(paths: Sequence[str], config: TrainConfig, say: Say) -> tuple[Path, pd.DataFrame]:
    """Train on each store, and test on it and on every other one.

    A dataset on itself is a run with the splits of ``config``; on the others one that trains on all of it but its dev
    speakers, and is tested on all of theirs. With ``lmmd`` there is one for each of the others, adapted to four fifths
    of its speakers without labels, and tested on the rest, five times. Each run is also kept as a run.

    Args:
        paths: of two stores or more, of different datasets.
        config: of all runs.
        say: says a line.

    Returns:
        The folder with ``matrix.csv`` and a heat map for each target, and the table that the file holds: for each pair
        and target the metric with its 95 % interval, resampling speakers of the test dataset.

    Raises:
        SerError: if there is one store alone, or one of the runs cannot be done.
    """
    check_tables(config, "a matrix")
    corpora = open_stores(paths)
    if not isinstance(corpora, Corpora):
        raise SerError(f"found one store, {corpora.path}: expected two or more, --store once for each")
    folder = make_run_folder(config.model_copy(update={"method": "matrix"}), corpora.dataset, "all")
    found: list[pd.DataFrame] = []
    for dataset, tests, store, own in _runs(corpora, config):
        say(f"{dataset} on {', '.join(tests)}")
        place, results = run(store, own, say)
        table = read_table(place / "predictions.csv", results["metrics"])
        for test, rows in _tested(table, dataset, store is corpora):
            found.append(_figures(rows, results["metrics"]).assign(train=dataset, test=test, run=str(place)))
    matrix = pd.concat(found)[FIGURE].reset_index(drop=True)
    write_whole(folder / "matrix.csv", matrix.to_csv(index=False))
    for _, rows in matrix.groupby("target", sort=False):
        draw_matrix(folder, rows, list(corpora.stores))
    return folder, matrix


def matrix_lines(matrix: pd.DataFrame) -> Iterator[tuple[str, ...]]:
    """Yield a row for each target and dataset that trains, after a header: a cell for each that tests."""
    tests = list(dict.fromkeys(matrix["train"]))
    yield ("", "trained on", *(f"tested on {test}" for test in tests))
    for (target, metric, train), rows in matrix.groupby(["target", "metric", "train"], sort=False):
        cells = rows.set_index("test").loc[tests]
        figures = cells[["value", "low", "high"]].to_numpy(float)
        texts = (f"{value:.3f} [{low:.3f}, {high:.3f}]" if np.isfinite(value) else "" for value, low, high in figures)
        yield (f"{target} {metric}", str(train), *texts)


def _runs(corpora: Corpora, config: TrainConfig) -> Iterator[tuple[str, tuple[str, ...], AnyStore, TrainConfig]]:
    """Yield which dataset trains, which ones test, and the store and settings of the run."""
    for dataset, store in corpora.stores.items():
        yield dataset, (dataset,), store, config.model_copy(update={"lmmd": None})
        others = tuple(other for other in corpora.stores if other != dataset)
        for tests in [(other,) for other in others] if config.lmmd else [others]:
            splits = Datasets(train=(dataset,), test=tests, adapt=ADAPT if config.lmmd else None)
            yield dataset, tests, corpora, config.model_copy(update={"splits": splits})


def _tested(table: pd.DataFrame, dataset: str, across: bool) -> list[tuple[str, pd.DataFrame]]:
    """Return the rows of each dataset that was tested."""
    if not across:
        return [(dataset, table)]
    owners = table.index.str.partition("/").get_level_values(0)
    return [(str(owner), table[owners == owner]) for owner in dict.fromkeys(owners)]


def _figures(table: pd.DataFrame, metrics: dict[str, str]) -> pd.DataFrame:
    """Return the metric of each target over some predictions."""
    rows, figures = [], table_figures(table, metrics)
    for target, metric in metrics.items():
        figure = interval(*figures[target])
        rows.append({"target": target, "metric": metric, **figure, "utterances": int(table[target].notna().sum())})
    return pd.DataFrame(rows).astype(dict.fromkeys(("value", "low", "high"), float))


def draw_matrix(folder: Path, rows: pd.DataFrame, datasets: list[str]) -> None:
    """Write the heat map of a target as ``matrix_TARGET``."""
    figures = rows.pivot_table(index="train", columns="test", values="value")
    values = figures.reindex(index=datasets, columns=datasets).to_numpy(float)  # NaN where no utterance has a label
    figure = blank(2.5 + 0.9 * len(datasets), 1.5 + 0.9 * len(datasets))
    axes = figure.subplots()
    image = axes.imshow(values, cmap="Blues", vmin=min([0.0, *values[np.isfinite(values)]]), vmax=1)
    axes.set_xticks(range(len(datasets)), map(as_label, datasets), rotation=45, ha="right")
    axes.set_yticks(range(len(datasets)), map(as_label, datasets))
    target = rows["target"].iloc[0]
    axes.set(xlabel="tested on", ylabel="trained on", title=f"{as_label(target)}, {rows['metric'].iloc[0]}")
    for (row, column), value in np.ndenumerate(values):
        color = "white" if value > 0.6 else "black"
        axes.text(column, row, f"{value:.2f}" if np.isfinite(value) else "", ha="center", va="center", color=color)
    figure.colorbar(image)
    save(figure, folder, f"matrix_{target}")
