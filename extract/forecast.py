"""What an extraction would do: utterances, hours, bytes of every feature in every data type, time."""

from __future__ import annotations

import time
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd

from extract.audio import AudioError, read_wave
from extract.config import ExtractConfig
from extract.features import Extractor, Extractors
from extract.jobs import count_workers
from extract.planning import decide
from extract.reasons import say_reasons
from extract.source import Places, Source, read_source, rows_of
from featurestore.access.store import Store, open_if_there
from featurestore.access.writer import StoreWriter
from featurestore.format.codec import Dtype
from featurestore.format.layout import describe_bytes, feature_bytes, free_bytes
from featurestore.shared.command import INCOMPLETE, describe_seconds, say, say_table

DTYPES: tuple[Dtype, ...] = get_args(Dtype)
BINS = 5
"""Bins of the histograms of V, A and D."""
TRIAL = 8
"""Utterances on which the time is measured."""


def say_forecast(config: ExtractConfig, extractors: Extractors) -> int:
    """Print what ``config`` would do with the extractors of its features; no store is written.

    The time is measured on the `TRIAL` utterances of the dataset that are nearest to its median length. It includes
    that of a survey: without its result a feature does the same work on the utterance itself.

    Returns:
        The exit code: that of the extraction, 1 if the disk has no room for it.

    Raises:
        StoreError: if an existing store contradicts the settings.
    """
    source = read_source(config, extractors)
    table = source.plan.table
    places = source.places
    failing = {f"{name} ({key})": why for key in places for name, why in places[key].failed.items()}
    say_reasons(config.store_path(), {"left out": source.plan.left_out, "would fail": failing}, places)
    say(f"dataset {config.dataset.name}: {_describe(table)}; {len(source.plan.left_out)} left out")
    if source.lacking:
        say(source.lacking)
    _say_labels(table, source.plan.ranges)
    say()
    say_table(
        ("bytes", "layers", "dim", "hop s", "frames", "asked for", *DTYPES),
        [_row(key, extractor, places[key]) for key, extractor in extractors.items()],
    )
    say()
    store = Path(config.store_path())
    writer, opened = StoreWriter(store), open_if_there(store, partial=True)
    decide(config, source, writer)
    wholes = {key: feature_bytes(extractor.spec(), places[key].frames) for key, extractor in extractors.items()}
    left = {key: whole - _bytes_there(opened, key, extractors[key], source) for key, whole in wholes.items()}
    whole, missing = sum(wholes.values()), sum(left.values())
    needed, free = writer.room(missing) if missing else 0, free_bytes(store)
    state = f"has {describe_bytes(whole - missing)} of it" if opened else "does not exist yet"
    shards = table["shard"].max() + 1
    say(f"{store} {state}; the whole takes {describe_bytes(whole)} in {shards} shards, free {describe_bytes(free)}")
    if needed > missing:
        say(f"an HDF5 file is written beside the shards that it is made of, which takes {describe_bytes(needed)}")
    if missing:
        _say_time(config, source, {key: left[key] / wholes[key] for key in extractors if left[key]})
    else:
        say("time: none, nothing is left to do")
    if needed > free and config.check_disk:
        say("the disk has no room for it: choose a smaller data type, or start all the same with check_disk=false")
        return 1
    complete = not (source.plan.left_out or source.lacking or failing)
    return 0 if complete else INCOMPLETE


def _say_labels(table: pd.DataFrame, ranges: dict[str, tuple[float, float]]) -> None:
    """Print how often each emotion is, the distribution of V, A and D, and how many utterances are flagged."""
    if "emotion" in table:
        counts = table["emotion"].replace("", "none").value_counts()
        say("emotion: " + ", ".join(f"{emotion} {count}" for emotion, count in counts.items()))
    rows = []
    for target, (low, high) in ranges.items():
        values = table[target].dropna()
        edges = np.linspace(low, high, BINS + 1)
        histogram, _ = np.histogram(values.clip(low, high), edges)
        figures = [f"{figure:.2f}" for figure in (values.min(), values.mean(), values.max(), values.std())]
        rows.append((target, f"{low:g} to {high:g}", len(table) - len(values), *figures, *histogram))
    if rows:
        say_table(
            ("label", "scale", "missing", "least", "mean", "most", "sd", *(f"{n}/{BINS}" for n in range(1, BINS + 1))),
            rows,
        )
    if "flags" in table and (table["flags"] != "").any():
        flagged = table.index[table["flags"] != ""]
        say(f"flagged: {len(flagged)}, e.g. {flagged[0]}: {table['flags'][flagged[0]]}")


def _bytes_there(store: Store | None, key: str, extractor: Extractor, source: Source) -> int:
    """Return how many of the bytes of a feature are extracted already."""
    if store is None or key not in store.parts:
        return 0
    names = source.plan.table.index
    return feature_bytes(extractor.spec(), source.places[key].frames[names.isin(store.names([key]))])


def _describe(table: pd.DataFrame) -> str:
    seconds = table["duration"]
    parts = [f"{len(table)} utterances", f"{seconds.sum() / 3600:.2f} h ({seconds.min():.2f} to {seconds.max():.2f} s)"]
    if "speaker" in table:
        parts.append(f"{table['speaker'].nunique()} speakers")
    if "split" in table:
        parts += [f"{count} {split}" for split, count in table["split"].value_counts().items() if split]
    return ", ".join(parts)


def _row(key: str, extractor: Extractor, places: Places) -> tuple[object, ...]:
    spec = extractor.spec()
    sizes = [describe_bytes(feature_bytes(spec.model_copy(update={"dtype": dtype}), places.frames)) for dtype in DTYPES]
    return (key, spec.layers, spec.dim, f"{spec.hop:g}" if spec.hop else "-", places.frames.sum(), spec.dtype, *sizes)


def _say_time(config: ExtractConfig, source: Source, shares: dict[str, float]) -> None:
    """Print how long it takes to extract a share of each of some features."""
    table = source.plan.table
    order = (table["duration"] - table["duration"].median()).abs().to_numpy().argsort(kind="stable")
    waves = {}
    for name in table.index[order[:TRIAL]]:
        try:
            waves[name] = read_wave(source.paths[name])
        except AudioError as error:
            say(f"would fail: {name}: {error}")
    if not waves:
        say("time: not known, no audio could be read for a trial")
        return
    parts, total = [], {"here": 0.0, "beside": 0.0}
    everything = float(np.rint(table["duration"] * 16_000).sum())
    shards, duration = int(table["shard"].max()) + 1, float(table["duration"].sum())
    extractors = {key: source.extractors[key] for key in shares}
    on_gpu = {extractor.on_gpu for extractor in extractors.values()}
    beside = len(on_gpu) == 2 and config.workers is None and config.scheduler is None
    workers = count_workers(config, {} if beside else extractors, shards, duration)
    for key, extractor in extractors.items():
        names = [name for name in waves if name not in source.places[key].failed]
        if not names:
            parts.append(f"{key} not known")
            continue
        given, rows = [waves[name] for name in names], rows_of(table.loc[names], extractor.feature.columns)
        list(extractor.compute_to_store(given[:1], rows[:1]))  # loads the weights, which does not count
        begin = time.perf_counter()
        for _ in extractor.compute_to_store(given, rows):
            pass
        audio = sum(map(len, given))
        here = beside and extractor.on_gpu
        seconds = (time.perf_counter() - begin) / audio * everything * shares[key] / (1 if here else workers)
        total["here" if here else "beside"] += seconds
        parts.append(f"{key} {describe_seconds(seconds)}")
    judged = f"judging by {len(waves)} utterances on this machine, {workers} at a time"
    say(f"time: about {describe_seconds(max(total.values()))} ({', '.join(parts)}), {judged}")
