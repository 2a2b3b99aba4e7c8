"""The extraction: labels and audio headers -> plan -> shards -> commit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from extract.audio import SAMPLING_RATE, AudioError, Wave, count_samples, read_wave
from extract.config import ExtractConfig
from extract.datasets import Labels
from extract.features import Feature
from featurestore.errors import SerError
from featurestore.plan import FeaturePlan, Plan
from featurestore.writer import StoreWriter

Report = Callable[[float, float], None]
Paths = dict[str, Path]
Samples = dict[str, int]


@dataclass
class Summary:
    """What an extraction did.

    Attributes:
        store: its path.
        utterances: how many are planned.
        seconds: of audio in them.
        left_out: utterances that could not be planned, with the reason.
        failed: utterances that are planned but have no frames of some feature, with the reason.
    """

    store: Path
    utterances: int
    seconds: float
    left_out: dict[str, str]
    failed: dict[str, str] = field(default_factory=dict)


def extract(config: ExtractConfig, report: Report = lambda *_: None) -> Summary:
    """Extract what is asked for, or what is still missing of it.

    Args:
        config: what is asked for.
        report: told the seconds of audio that are done, and of how many.

    Raises:
        SerError: if there is nothing to do, or the store that is there is another.
    """
    features = config.features()
    if not features:
        raise SerError("nothing to extract: give --encoder NAME|DIR, or --features NAME,NAME")
    labels = config.dataset.labels()
    left_out = dict(labels.left_out)
    folder = config.dataset.audio_folder()
    paths = {name: folder / path for name, path in zip(labels.table.index, labels.table["path"], strict=True)}
    samples = _measure(paths, left_out)
    places = _place(features, samples, left_out)
    plan = _plan(config, labels, samples, left_out)
    writer = StoreWriter(config.store_path())
    with writer.lock():
        writer.plan(plan)
        for key, feature in features.items():
            frames, times = zip(*(places[key][name] for name in plan.table.index), strict=True)
            planned = FeaturePlan(feature.spec(), np.array(frames, np.int64), np.array(times, np.float64))
            writer.plan_feature(key, planned)
        failed = _fill(writer, features, plan.table, paths, report)
    return Summary(writer.path, len(plan.table), float(plan.table["duration"].sum()), left_out, failed)


def _measure(paths: Paths, left_out: dict[str, str]) -> Samples:
    """Return the length of each utterance at 16 kHz, leaving out what cannot be read."""
    samples: Samples = {}
    with ThreadPoolExecutor() as pool:
        for name, result in zip(paths, pool.map(_try_count, paths.values()), strict=True):
            if isinstance(result, int):
                samples[name] = result
            else:
                left_out[name] = result
    return samples


def _try_count(path: Path) -> int | str:
    try:
        return count_samples(path)
    except AudioError as error:
        return str(error)


def _place(
    features: dict[str, Feature], samples: Samples, left_out: dict[str, str]
) -> dict[str, dict[str, tuple[int, float]]]:
    """Return the number of frames and the first time of every feature and utterance."""
    places: dict[str, dict[str, tuple[int, float]]] = {key: {} for key in features}
    for name, count in samples.items():
        for key, feature in features.items():
            try:
                places[key][name] = feature.place(count)
            except ValueError as error:
                left_out[name] = str(error)
    return places


def _plan(config: ExtractConfig, labels: Labels, samples: Samples, left_out: dict[str, str]) -> Plan:
    usable = [name for name in samples if name not in left_out]
    if not usable:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in list(left_out.items())[:3])
        raise SerError(f"dataset {config.dataset.name}: no utterance can be used ({len(left_out)} left out: {reasons})")
    duration = np.array([samples[name] for name in usable]) / SAMPLING_RATE
    table = labels.table.loc[usable].assign(duration=duration)
    return Plan.make(table, config.shard_seconds, dataset=config.dataset.name, ranges=labels.ranges, left_out=left_out)


def _fill(
    writer: StoreWriter,
    features: dict[str, Feature],
    table: pd.DataFrame,
    paths: Paths,
    report: Report,
) -> dict[str, str]:
    """Write the shards that are missing, commit every feature, and return what failed."""
    pending = {key: writer.pending(key) for key in features}
    todo = sorted({number for numbers in pending.values() for number in numbers})
    total = float(table["duration"].sum())
    done = float(table["duration"][~table["shard"].isin(todo)].sum())
    for number, waves in _decode_ahead(table, paths, todo):
        for key, feature in features.items():
            if number in pending[key]:
                _write_shard(writer, key, number, feature, waves)
        done += float(table["duration"][table["shard"] == number].sum())
        report(done, total)
    failed: dict[str, str] = {}
    for key in features:
        failed |= {f"{name} ({key})": reason for name, reason in writer.commit(key).items()}
    return failed


def _write_shard(writer: StoreWriter, key: str, number: int, feature: Feature, waves: dict[str, Wave | str]) -> None:
    good = {name: wave for name, wave in waves.items() if not isinstance(wave, str)}
    names = list(good)
    with writer.shard(key, number) as shard:
        for name, wave in waves.items():
            if isinstance(wave, str):
                shard.fail(name, wave)
        for position, frames in feature.compute(list(good.values())):
            shard.add(names[position], frames)


def _decode_ahead(table: pd.DataFrame, paths: Paths, shards: list[int]) -> Iterator[tuple[int, dict[str, Wave | str]]]:
    """Yield each shard's waveforms by name (or why there is none), decoding the next shard meanwhile."""
    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor())

        def submit(number: int) -> dict[str, Future[Wave | str]]:
            rows = table[table["shard"] == number]
            durations = zip(rows.index, rows["duration"], strict=True)
            return {name: pool.submit(_try_read, paths[name], seconds) for name, seconds in durations}

        ahead = [submit(number) for number in shards[:1]]
        for i, number in enumerate(shards):
            ahead += [submit(later) for later in shards[i + 1 : i + 2]]
            yield number, {name: future.result() for name, future in ahead.pop(0).items()}


def _try_read(path: Path, seconds: float) -> Wave | str:
    try:
        wave = read_wave(path)
    except AudioError as error:
        return str(error)
    expected = round(seconds * SAMPLING_RATE)
    return wave if len(wave) == expected else f"the file has changed: {len(wave)} samples, planned were {expected}"
