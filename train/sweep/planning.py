"""What a sweep would take: variants, bytes to be read, memory, and time, measured on a few steps."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from typing import TypeVar

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from featurestore.shared.command import describe_seconds
from featurestore.shared.errors import SerError
from train.config import TrainConfig
from train.examples.examples import Examples, load_examples
from train.examples.hearing import Hearing
from train.models.inference import count_parameters
from train.models.schedule import count_batches
from train.models.training import Training
from train.reading.corpora import open_stores
from train.running.memory import enough_memory, keep_freed_memory
from train.running.run import protocol_of
from train.running.work import BYTES_A_PARAMETER, MOST_BYTES, MOST_IN_PACK
from train.running.workers import count_workers
from train.splits import share_of
from train.sweep.config import SweepConfig, Variant, as_sample, train_config, variants_of
from train.sweep.methods import method_name

STEPS = 3
MOST_MEASURED = 12
"""Methods of which steps are measured; the others count as the mean of these."""
SHARE_OF_STEP = 1 / 3
"""What predicting a batch takes of a training step: no gradient."""


T = TypeVar("T")
Read = tuple[str, str, str, int]
"""A store, a feature of it, what of that, and a layer."""


@dataclass(frozen=True)
class Measured:
    """What one method would take.

    Attributes:
        models: on all folds, of all members.
        seconds: of one core for all of them, where none stops early.
        reads: bytes that a pass reads of each layer of each feature, all frames or stored means.
        memory: bytes that a process has at its most.
        why: it cannot be trained; empty if it can.
    """

    models: int = 0
    seconds: float = 0.0
    reads: tuple[tuple[Read, float], ...] = ()
    memory: int = 0
    why: str = ""


def plan_lines(config: SweepConfig, stores: Sequence[str], workers: int | None) -> Iterator[str]:
    """Yield what a sweep would take, a line each.

    Args:
        config: of the sweep.
        stores: paths or URLs.
        workers: processes of one thread each; as many as there are cores when absent.

    Raises:
        SerError: if the settings of a variant cannot be, or there is no such store, or memory does not suffice.
    """
    drawn = ", drawn at random in place of those that the search will propose" if config.search else ""
    config = as_sample(config)
    groups: dict[str, list[Variant]] = {}
    for variant in variants_of(config):
        train_config(config, variant)
        open_stores(variant.stores(stores))
        groups.setdefault(method_name(variant), []).append(variant)
    methods = list(groups.values())
    chosen = sorted({int(n) for n in np.linspace(0, len(methods) - 1, min(len(methods), MOST_MEASURED)).round()})
    firsts = [methods[number][0] for number in chosen]
    asked = [(train_config(config, first), first.stores(stores)) for first in firsts]
    measured = _apart(measure, asked)
    found = [(methods[number], one) for number, one in zip(chosen, measured, strict=True)]
    yield f"{sum(map(len, methods))} variants of {len(methods)} methods{drawn}"
    yield from (f"cannot be trained: {of[0].name}: {one.why}" for of, one in found if one.why)
    trained = [(len(of) * one.seconds, method_name(of[0])) for of, one in found if not one.why]
    if len(trained) > 1:
        yield from (f"{describe_seconds(seconds)} of one core: {name}" for seconds, name in sorted(trained)[::-1])
    good = [(len(of), one) for of, one in found if not one.why]
    if good:
        share = sum(map(len, methods)) / sum(len(of) for of, _ in found)
        others = [of[0] for number, of in enumerate(methods) if number not in chosen]
        rest = [(train_config(config, one), one.stores(stores)) for one in others]
        rest = [*{repr((paths, one.streams, one.fusion)): (one, paths) for one, paths in rest}.values()]
        reads = [*(one.reads for _, one in good), *_apart(reads_of, rest)]
        yield from _described(good, [read for of in reads for read in of], share, asked[0][0], workers)


def _apart(function: Callable[[TrainConfig, list[str]], T], asked: Sequence[tuple[TrainConfig, list[str]]]) -> list[T]:
    """Measure in a process of its own, whose memory is that of the measurement alone.

    Raises:
        SerError: if that is ended, as systems do where memory does not suffice.
    """
    found: list[T] = []
    if not asked:
        return found
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        try:
            found += pool.map(function, *zip(*asked, strict=True))
        except BrokenProcessPool:
            raise SerError(
                f"the process that measures was ended at method {len(found)} of {len(asked)}: does it lack memory?"
            ) from None
    return found


def _described(
    good: Sequence[tuple[int, Measured]],
    reads: Sequence[tuple[Read, float]],
    share: float,
    config: TrainConfig,
    workers: int | None,
) -> Iterator[str]:
    """Yield lines about methods that can be trained, each with the number of its variants.

    They are a ``share`` of all, which read ``reads``.
    """
    models = round(share * sum(count * one.models for count, one in good))
    seconds = share * sum(count * one.seconds for count, one in good)
    processes = count_workers(config.device, workers, models)
    once = dict(reads)
    heard = dict.fromkeys(f"{what} of {feature}" for _, feature, what, _ in once)
    memory = max(one.memory for _, one in good)
    yield f"reads: {sum(once.values()) / 1e6:.1f} MB, which all variants share: {', '.join(heard)}"
    yield f"memory: {processes} processes of {memory / 1e9:.2f} GB, beside what the system keeps of the store"
    yield (
        f"time: {models} models, training takes about {describe_seconds(seconds / processes)} with {processes} "
        f"processes that have a core each, if none stops early; measured on {STEPS} steps of {len(good)} methods"
    )


def measure(config: TrainConfig, stores: list[str]) -> Measured:
    """Return what one method would take, from a few steps of its first model."""
    torch.set_num_threads(1)
    keep_freed_memory()
    try:
        with threadpool_limits(1), enough_memory():
            return _measure(config, stores)
    except SerError as error:
        return Measured(why=str(error))


def _measure(config: TrainConfig, stores: list[str]) -> Measured:
    examples = load_examples(open_stores(stores), config)
    protocol = protocol_of(config, examples)
    folds = [fold for number, fold in enumerate(protocol.folds) if config.folds is None or number in config.folds]
    train = share_of(folds[0].train, config.train_share)
    training = Training(examples, config, train, folds[0].dev, config.optim.epochs, config.seed, folds[0].unlabelled)
    step, size = training.seconds_a_step(STEPS), config.optim.batch_size
    batches = count_batches(len(train), size) + SHARE_OF_STEP * count_batches(len(folds[0].dev), size)
    began = time.monotonic()
    examples.batch(examples.rows(folds[0].test[:1]))
    tested = len(folds[0].test) * (time.monotonic() - began + SHARE_OF_STEP * step / size)
    models = len(folds) * config.members
    seconds = models * (config.optim.most_epochs * batches * step + tested)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if examples.count_windows(config.optim.window) > 1:  # others are trained beside it
        one = BYTES_A_PARAMETER * count_parameters(training.model)
        most += round(min((MOST_IN_PACK - 1) * one, max(MOST_BYTES - one, 0)))
    return Measured(models, seconds, tuple(_reads_of(examples)), most)


def reads_of(config: TrainConfig, stores: list[str]) -> list[tuple[Read, float]]:
    """Return what a pass of a method reads; nothing if it cannot be trained."""
    try:
        return [*_reads_of(load_examples(open_stores(stores), config))]
    except SerError:
        return []


def _reads_of(examples: Examples) -> Iterator[tuple[Read, float]]:
    for hearing, size in zip(examples.streams.values(), examples.bytes_by_stream, strict=True):
        yield from _reads(str(examples.store.path), hearing, size)


def _reads(path: str, hearing: Hearing, size: int) -> Iterator[tuple[Read, float]]:
    source = hearing.source
    what = "frames" if hearing.front.keeps_time else "stored means"
    for layer in np.arange(source.spec.layers)[slice(None) if source.layers is None else source.layers].tolist():
        yield (path, source.name, what, layer), size / source.count
