"""Training all variants of a sweep: their models in as many processes as there are, each as ser-train trains it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pandas as pd

from featurestore.format.opening import from_anywhere
from featurestore.format.plan import PLACES
from featurestore.shared.command import progress
from featurestore.shared.errors import SerError
from train.config import TrainConfig
from train.examples.goals import DIMENSIONS
from train.reading.corpora import AnyStore, open_stores
from train.running.folder import make_run_folder
from train.running.inspection import Inspection
from train.running.run import Say, prepare, write_results
from train.running.work import Job, Pack, Report, Task, do_pack, jobs_of, packed, reason_of
from train.running.workers import count_workers, run_packs
from train.shared.files import write_whole
from train.sweep.config import (
    SweepConfig,
    Variant,
    as_sample,
    check_free,
    from_any_folder,
    train_config,
    variants_of,
)
from train.sweep.folder import FAILED, SweepFolder
from train.sweep.leaderboard import results_of, scores_of
from train.sweep.live import following


def begin(config: SweepConfig, stores: list[str], runs: Path, name: str) -> Path:
    """Make the folder of a sweep, and return it; all variants' settings are checked before.

    Args:
        config: of the sweep.
        stores: paths or URLs.
        runs: where it goes.
        name: of the sweep.

    Raises:
        SerError: if the settings of a variant cannot be, or there is no such store, or stores differ in their labels.
    """
    variants = variants_of(as_sample(config))
    for variant in variants:
        asked = train_config(config, variant)
        columns = [column for task in asked.tasks.values() for column in task.columns]
        check_free(list(variant.levels), columns or asked.targets or DIMENSIONS)
    dataset = _dataset_of([list(paths) for paths in dict.fromkeys(tuple(one.stores(stores)) for one in variants)])
    folder = SweepFolder(make_run_folder(TrainConfig(runs=runs, method=name), dataset, "sweep"))
    folder.write(from_any_folder(config), [from_anywhere(path) for path in stores])
    return folder.path


def _dataset_of(stores: list[list[str]]) -> str:
    """Return the dataset of the stores over which variants are trained, all of the same utterances and labels."""
    first, *others = [open_stores(paths) for paths in stores]
    for other in others:
        if not _labels(other).equals(_labels(first)):
            raise SerError(
                f"{other.path} has other utterances or labels than {first.path}: expected the same, "
                "as ser-store convert makes them"
            )
    return first.dataset


def _labels(store: AnyStore) -> pd.DataFrame:
    return store.utterances.drop(columns=[*PLACES], errors="ignore").sort_index()


def run_sweep(folder: SweepFolder, workers: int | None, scheduler: str | None, say: Say) -> int:
    """Train what is not trained yet of all variants, and return how many cannot be.

    Each variant is a run, the same as by ser-train, and goes on from the last epoch of each of its models. One that
    cannot be trained is named with its reason, and the others go on; it is tried again when the sweep is resumed.

    Args:
        folder: of the sweep.
        workers: processes of one thread each; as many as there are cores when absent.
        scheduler: the address of a dask scheduler whose workers do it instead.
        say: says a line.
    """
    by_path = {os.path.abspath(folder.run(variant).path): variant for variant in folder.variants}
    for variant in folder.variants:
        (folder.run(variant).path / FAILED).unlink(missing_ok=True)
    _prepare(folder, say)
    left = {path: _left(folder, variant) for path, variant in by_path.items() if not folder.failure(variant)}
    waiting = {path: len(jobs) for path, jobs in left.items() if jobs}
    count = count_workers(next(iter(_devices(folder)), None), workers, max(1, sum(waiting.values())), scheduler)
    packs = packed([(path, job) for path, jobs in left.items() for job in jobs or ()], count)
    packs += [[(path, None)] for path, jobs in left.items() if jobs == []]

    def then(task: Task) -> list[Pack]:
        path, job = task
        waiting[path] = waiting.get(path, 0) - 1
        return [[(path, None)]] if job and not waiting[path] else []

    models = {by_path[path].number: _count_models(jobs) for path, jobs in left.items() if jobs is not None}
    with following(folder, by_path, models) as live:
        for (path, job), why in run_packs(do_variants, packs, count, scheduler, live.epoch, then):
            variant = by_path[path]
            if why:
                fail(folder, variant, why, say)
                live.variant_done(variant, failed=True)
            elif job is None:
                live.variant_done(variant)
                scores = scores_of(results_of(folder.run(variant)))
                say(f"{variant.number}: {variant.name}: {', '.join(f'{k} {v:.3f}' for k, v in scores.items())}")
            elif job.member is not None:
                live.model_done(variant, job.fold, job.member)
    return sum(bool(folder.failure(variant)) for variant in folder.variants)


def do_variants(pack: Pack, report: Report) -> list[str | None]:
    """Do jobs of variants side by side, or write the results of one where all of them are done."""
    if any(job for _, job in pack):
        return do_pack(pack, report)
    failed: list[str | None] = []
    for path, _ in pack:
        try:
            write_results(path)
            failed.append(None)
        except Exception as error:
            failed.append(reason_of(error))
    return failed


def _count_models(jobs: list[Job]) -> int:
    return sum(job.member is not None for job in jobs)


def _prepare(folder: SweepFolder, say: Say) -> None:
    """Write the folder of each variant's run, where it is not there."""
    inspection, count = Inspection(), len(folder.variants)
    with progress("prepare") as update:
        for number, variant in enumerate(folder.variants):
            update(number, count, f"{number} of {count} variants")
            prepare_variant(folder, variant, inspection, say)


def prepare_variant(folder: SweepFolder, variant: Variant, inspection: Inspection, say: Say) -> bool:
    """Write the folder of a variant's run, where it is not there, and return whether it can be trained."""
    run = folder.run(variant)
    if (run.path / "run.json").exists():
        return True
    try:
        prepare(folder.store(variant), train_config(folder.config, variant), lambda _: _made(run.path), inspection)
    except SerError as error:
        fail(folder, variant, str(error), say)
        return False
    return True


def _made(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path


def fail(folder: SweepFolder, variant: Variant, why: str, say: Say) -> None:
    """Note that a variant cannot be trained, and say so."""
    path = _made(folder.run(variant).path)
    write_whole(path / FAILED, json.dumps({"why": why}, ensure_ascii=False) + "\n")
    say(f"failed: {variant.number}: {variant.name}: {why}")


def _left(folder: SweepFolder, variant: Variant) -> list[Job] | None:
    """Return the jobs of a variant that are to be done; None where its results are there, too."""
    run = folder.run(variant)
    if (run.path / "metrics.json").exists():
        return None
    return [job for job in jobs_of(run) if not job.is_done(run)]


def _devices(folder: SweepFolder) -> set[str | None]:
    return {folder.run(variant).config.device for variant in folder.variants if not folder.failure(variant)}
