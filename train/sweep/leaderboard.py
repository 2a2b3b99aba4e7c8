"""What the variants of a sweep have reached, from their files alone, also while the sweep runs."""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterator
from typing import Any

import pandas as pd

from featurestore.shared.errors import SerError
from train.running.folder import RunFolder
from train.running.work import jobs_of
from train.shared.files import write_whole
from train.sweep.config import Variant
from train.sweep.folder import SweepFolder

STATES = ("done", "training", "waiting", "given up", "failed")


def leaderboard(folder: SweepFolder) -> pd.DataFrame:
    """Return a row for each variant, those that are best on dev first.

    Columns are ``variant``, each factor, ``state`` (one of `STATES`), ``models`` (trained, of all), ``dev`` (the score
    that selects, mean over models), for each target and their mean ``TARGET``, ``TARGET_low`` and ``TARGET_high`` (on
    the test parts, with the 95 % interval), and ``why`` a variant failed.
    """
    rows = [{"variant": one.number, **one.levels, **_reached(folder, one)} for one in folder.variants]
    table = pd.DataFrame(rows or {column: [] for column in ("variant", "state", "models", "dev", "why")})
    return table.sort_values("dev", ascending=False, na_position="last", kind="stable").reset_index(drop=True)


def with_progress(table: pd.DataFrame, folder: SweepFolder) -> pd.DataFrame:
    """Return a leaderboard with a column ``at``: what was heard last of each variant in training."""
    last = folder.epochs().groupby("variant").last()
    at = {one.Index: f"fold {one.fold}, epoch {one.epoch}, dev {one.dev:.3f}" for one in last.itertuples()}
    training = table["state"] == "training"
    return table.assign(at=table["variant"].map(at).where(training, "").fillna(""))


def write_leaderboard(folder: SweepFolder) -> pd.DataFrame:
    """Write ``leaderboard.csv`` into the folder of a sweep, and return what it holds."""
    table = leaderboard(folder)
    write_whole(folder.path / "leaderboard.csv", table.to_csv(index=False))
    return table


def leaderboard_lines(table: pd.DataFrame, most: int = 20) -> Iterator[tuple[str, ...]]:
    """Yield the best rows as text, after a header, and those of variants in training."""
    columns = [*map(str, table.columns)]
    figures = [column.removesuffix("_low") for column in columns if column.endswith("_low")]
    ends = [f"{figure}_{end}" for figure in figures for end in ("low", "high")]
    shown = [column for column in columns if column not in (*ends, *figures, "dev", "why")]
    yield (*shown, "dev", *figures)
    training = table.iloc[most:].query("state == 'training'").head(most)
    for row in pd.concat([table.head(most), training]).to_dict("records"):
        words = ("" if row[column] != row[column] else str(row[column]) for column in shown)
        dev = f"{row['dev']:.3f}" if row["dev"] == row["dev"] else ""
        yield (*words, dev, *(_cell(row, figure) for figure in figures))


def _cell(row: dict[Hashable, Any], figure: str) -> str:
    value, low, high = (row[key] for key in (figure, f"{figure}_low", f"{figure}_high"))
    return f"{value:.3f} [{low:.3f}, {high:.3f}]" if value == value else ""


def _reached(folder: SweepFolder, variant: Variant) -> dict[str, Any]:
    run, why = folder.run(variant), folder.failure(variant)
    if why or not (run.path / "run.json").exists():
        return {"state": "failed" if why else "waiting", "models": "", "dev": float("nan"), "why": why}
    if (run.path / "metrics.json").exists():
        results = results_of(run)
        count = len(results["models"])
        return {"state": "done", "models": f"{count} of {count}", "why": "", **_figures(results)}
    if why := folder.given_up(variant):
        return {"state": "given up", "models": "", "dev": float("nan"), "why": why}
    models = [job for job in jobs_of(run) if job.member is not None]
    trained = sum(run.model(job.key).exists() for job in models)
    begun = trained or any(run.checkpoint(job.key).exists() for job in models)
    state = "training" if begun else "waiting"
    return {"state": state, "models": f"{trained} of {len(models)}", "dev": float("nan"), "why": ""}


def scores_of(results: dict[str, Any]) -> dict[str, float]:
    """Return what the results of a run say it reaches: ``dev``, each target and their mean on the test parts."""
    dev = [one["best_score"] for one in results["models"]]
    test = {target: figure["value"] for target, figure in results["results"]["model"].items()}
    return {"dev": sum(dev) / len(dev), **test}


def results_of(run: RunFolder) -> dict[str, Any]:
    """Return the content of metrics.json of a finished run.

    Raises:
        SerError: if it is damaged.
    """
    file = run.path / "metrics.json"
    try:
        return dict(json.loads(file.read_bytes()))
    except ValueError as error:
        raise SerError(f"{file} is damaged: {error}") from None


def _figures(results: dict[str, Any]) -> dict[str, Any]:
    ends = {
        f"{target}_{end}": figure[end]
        for target, figure in results["results"]["model"].items()
        for end in ("low", "high")
    }
    return {**scores_of(results), **ends}
