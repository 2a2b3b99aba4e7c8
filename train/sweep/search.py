"""A search: variants that Optuna proposes one after another, by what those before reached on dev."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from featurestore.shared.command import progress
from featurestore.shared.errors import SerError
from train.running.folder import RunFolder
from train.running.inspection import Inspection
from train.running.run import Say
from train.running.work import Job, jobs_of
from train.running.workers import count_workers, run_packs
from train.shared.tensors import read_tensors
from train.sweep.config import Factor, Levels, Settings, SweepConfig, Variant, in_words, of_factors
from train.sweep.folder import FAILED, SweepFolder
from train.sweep.running import do_variants, fail, prepare_variant

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.samplers import TPESampler

STUDY = "study.journal"
"""In the folder of a sweep: what Optuna knows of its trials."""


def run_search(folder: SweepFolder, workers: int | None, scheduler: str | None, say: Say) -> int:
    """Train as many variants as the search asks for, and return how many of them failed.

    A tree-structured Parzen estimator proposes each (J. Bergstra et al. 2011, Algorithms for hyper-parameter
    optimization). What it learns is the mean of the best dev scores of the models; the test parts say nothing to it.
    Folds are trained in order, as many models at once as there are workers, and a variant is given up where a Wilcoxon
    test over its folds, paired with those of the best one, says that it will not do better. One that fails stays open,
    and is tried again when the search is resumed.

    Args:
        folder: of the sweep.
        workers: processes of one thread each.
        scheduler: the address of a dask scheduler whose workers do it instead.
        say: says a line.
    """
    study, inspection = _study(folder), Inspection()
    search = folder.config.search
    assert search is not None
    with progress("search") as update:
        for trial in _trials(study, folder.config):
            update(trial.number, search.trials, f"variant {trial.number}")
            levels, settings = _proposed(folder.config, trial)
            variant = next((one for one in folder.variants if one.number == trial.number), None)
            if variant is None and (same := next((one for one in folder.variants if one.settings == settings), None)):
                _tell_as(study, trial, same.number)
                say(f"{trial.number}: {same.name}: is variant {same.number}, and not trained again")
                continue
            if variant is None:
                variant = Variant(trial.number, levels, settings)
                folder.add(variant)
            (folder.run(variant).path / FAILED).unlink(missing_ok=True)
            if not prepare_variant(folder, variant, inspection, say):
                continue
            _train(
                folder,
                variant,
                trial,
                study,
                count_workers(folder.run(variant).config.device, workers, 2**10),
                scheduler,
                say,
            )
    return sum(bool(folder.failure(variant)) for variant in folder.variants)


def _study(folder: SweepFolder) -> Study:
    try:
        import optuna
    except ImportError:
        raise SerError("a search needs Optuna: pip install 'ser-featurestore[optuna]'") from None
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    search = folder.config.search
    assert search is not None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # the pruner is still one
        return optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(folder.path / STUDY))),
            study_name="sweep",
            direction="maximize",
            pruner=optuna.pruners.WilcoxonPruner() if search.prune else optuna.pruners.NopPruner(),
            load_if_exists=True,
        )


def _states() -> Any:
    from optuna.trial import TrialState

    return TrialState


def _trials(study: Study, config: SweepConfig) -> Iterator[Trial]:
    """Yield the trials that are to be done: those that a killed process left, or that failed, then new ones."""
    from optuna import Trial

    search = config.search
    assert search is not None

    for frozen in study.get_trials(deepcopy=False, states=[_states().RUNNING]):
        study.sampler = _sampler(config, frozen.number)
        yield Trial(study, frozen._trial_id)
    while (number := len(study.get_trials(deepcopy=False))) < search.trials:
        study.sampler = _sampler(config, number)
        yield study.ask()


def _sampler(config: SweepConfig, number: int) -> TPESampler:
    """Return what proposes a trial, the same however often the search was interrupted before."""
    from optuna.samplers import TPESampler

    assert config.search is not None
    seed = int(np.random.SeedSequence([config.seed, number]).generate_state(1)[0])
    return TPESampler(seed=seed, n_startup_trials=config.search.random)


def _tell_as(study: Study, trial: Trial, number: int) -> None:
    """Tell a trial what another of the same settings has reached; that it failed, if that is not known."""
    known, states = study.get_trials(deepcopy=False)[number], _states()
    state = known.state if known.state in (states.COMPLETE, states.PRUNED) else states.FAIL
    study.tell(trial, known.value if state == states.COMPLETE else None, state=state)


def _proposed(config: SweepConfig, trial: Trial) -> tuple[Levels, tuple[Settings, ...]]:
    """Return the levels that a trial proposes, and their settings."""

    def propose(factor: Factor) -> tuple[str, Settings]:
        if factor.low is None or factor.high is None:
            level = trial.suggest_categorical(factor.name, list(factor.levels))
            return str(level), factor.levels[str(level)]
        value = float(f"{trial.suggest_float(factor.name, factor.low, factor.high, log=factor.log):.4g}")
        return in_words(value), {factor.name: value}

    return of_factors(config.factors, propose)


def _train(
    folder: SweepFolder, variant: Variant, trial: Trial, study: Study, workers: int, scheduler: str | None, say: Say
) -> None:
    """Train the models of a variant fold by fold, tell the trial of each, and write what they reach, or give up."""
    run = folder.run(variant)
    path, jobs = os.path.abspath(run.path), jobs_of(run)
    folds = list(dict.fromkeys(job.fold for job in jobs))
    told: list[float] = []
    for first in range(0, len(jobs), workers):
        left = [job for job in jobs[first : first + workers] if not job.is_done(run)]
        if not _do(folder, variant, [[(path, job)] for job in left], workers, scheduler, say):
            return
        while len(told) < len(folds) and _is_done(run, jobs, folds[len(told)]):
            told.append(_dev_of(run, jobs, folds[len(told)]))
            trial.report(told[-1], len(told))
        if len(told) < len(folds) and trial.should_prune():
            folder.give_up(variant, f"given up after {len(told)} of {len(folds)} folds, dev {np.mean(told):.3f}")
            study.tell(trial, state=_states().PRUNED)
            say(f"{variant.number}: {variant.name}: {folder.given_up(variant)}")
            return
    if not _do(folder, variant, [[(path, None)]], 1, None, say):
        return
    study.tell(trial, float(np.mean(told)))
    say(f"{variant.number}: {variant.name}: dev {np.mean(told):.3f}")


def _do(folder: SweepFolder, variant: Variant, packs: list[Any], workers: int, scheduler: str | None, say: Say) -> bool:
    """Do packs of one variant, and return whether all went well."""

    def report(reached: dict[str, Any]) -> None:
        folder.note_epoch(variant, reached)

    good = True
    for _, why in run_packs(do_variants, packs, min(workers, max(len(packs), 1)), scheduler, report):
        if why:
            fail(folder, variant, why, say)
            good = False
    return good


def _is_done(run: RunFolder, jobs: list[Job], fold: int) -> bool:
    return all(job.is_done(run) for job in jobs if job.fold == fold and job.member is not None)


def _dev_of(run: RunFolder, jobs: list[Job], fold: int) -> float:
    """Return the best dev score of the models of a fold, mean over members."""
    models = [job.key for job in jobs if job.fold == fold and job.member is not None]
    return float(np.mean([read_tensors(run.model(one))[1]["best_score"] for one in models]))
