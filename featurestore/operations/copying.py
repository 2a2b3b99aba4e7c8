"""Make new stores from others: merged, in Zarr or HDF5, or with other data types."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from featurestore.access.feature import FeatureStore
from featurestore.access.feature_shard import FeatureShard
from featurestore.access.store import Store
from featurestore.access.writer import StoreWriter
from featurestore.format.codec import Dtype, encode
from featurestore.format.layout import check_plan
from featurestore.format.plan import PLACES, Compress, FeaturePlan, FeatureSpec, Ints, Plan, as_json_ranges
from featurestore.format.table import read_intact_table
from featurestore.operations.joining import join_datasets, join_left_out, join_tables, merge_ranges
from featurestore.operations.verify import problem_of
from featurestore.shared.errors import StoreError

Report = Callable[[float, float], None]
DAMAGED = "damaged in"
"""The beginning of the reason why an utterance has failed in a copy, although it has frames in the source."""


def copy_stores(
    sources: Sequence[Store],
    path: str | Path,
    *,
    features: Sequence[str] = (),
    dtype: Dtype | None = None,
    compress: Compress | None = None,
    shard_seconds: float = 164.0,
    report: Report = lambda *_: None,
) -> str | Path:
    """Write the utterances of ``sources`` into one store at ``path``, whose suffix chooses Zarr or HDF5.

    Frames are copied bit by bit unless another data type is asked for; a copy that was killed continues when it is
    started again. Everything is compared with its checksums: an utterance with damaged frames has failed in the copy,
    for a reason that begins with `DAMAGED`.

    Args:
        sources: their utterances must have different names.
        path: of the new store.
        features: to copy; all that every source has when empty.
        dtype: data type of hidden states; unchanged when absent.
        compress: compression of the frames; none when absent, even if a source is compressed.
        shard_seconds: audio in a shard.
        report: told how many utterances are done, and of how many.

    Raises:
        StoreError: if names, columns or the settings of a feature are in conflict, a feature is not in every source, a
            data type cannot hold a value, or the table of a source or the plan of a feature is damaged.
        OSError: if a part cannot be read.
    """
    if not sources:
        raise StoreError("found no store to copy: give the stores from which the new one is made")
    specs = {
        feature: _spec(sources[0].feature(feature).spec, dtype, compress)
        for feature in _choose_features(sources, features)
    }
    plan = _join(sources, shard_seconds)
    origin = {name: source for source in sources for name in source.index.names}
    writer = StoreWriter(path)
    done, total = 0, len(specs) * len(plan.table)
    with writer.lock():
        for feature, spec in specs.items():
            writer.check_feature(feature, spec)
        writer.plan(plan)
        for feature, spec in specs.items():
            rows = plan.table.index.get_indexer(pd.Index(writer.index.names))  # an existing store has its own order
            writer.plan_feature(feature, _plan_feature(sources, feature, spec, rows))
            _forget_damage(writer, feature)
            pending = writer.pending(feature)
            done += int((~np.isin(writer.index.shard, pending)).sum())
            for number in pending:
                with writer.shard(feature, number) as shard:
                    for name in shard.names:
                        _copy(origin[name].feature(feature), name, shard, spec.dtype)
                done += len(shard.names)
                report(done, total)
            writer.commit(feature)
    return path


def _join(sources: Sequence[Store], shard_seconds: float) -> Plan:
    """Return the plan of one store with the utterances of all."""
    table = _join_tables(sources)
    ranges: dict[str, list[float]] = {}
    for source in sources:
        ranges = merge_ranges(ranges, as_json_ranges(source.ranges), source.path)
    return Plan.make(
        table,
        shard_seconds,
        dataset=join_datasets(source.dataset for source in sources),
        ranges={target: (low, high) for target, (low, high) in ranges.items()},
        left_out=join_left_out((source.left_out for source in sources), table),
    )


def _plan_feature(sources: Sequence[Store], feature: str, spec: FeatureSpec, rows: Ints) -> FeaturePlan:
    """Return the plan of a feature from the concatenated plans of the sources, of which these ``rows`` are used."""
    plans = [source.feature(feature).planned for source in sources]
    frames, times = (np.concatenate([plan[array] for plan in plans])[rows] for array in ("frames", "time"))
    return FeaturePlan(spec, frames, times)


def _forget_damage(writer: StoreWriter, feature: str) -> None:
    """Drop the shards of an earlier copy in which damaged utterances have failed, so that they are copied again."""
    there = writer.feature(feature)
    shards = {there.shard_of(name)[0] for name, reason in there.failed.items() if reason.startswith(DAMAGED)}
    if shards:
        writer.drop(feature, shards)


def _copy(feature: FeatureStore, name: str, shard: FeatureShard, dtype: Dtype) -> None:
    if name in feature.flagged:
        shard.flag(name, feature.flagged[name])
    if name in feature.failed:
        shard.fail(name, feature.failed[name])
        return
    problem = problem_of(feature, name)
    if problem:
        shard.fail(name, f"{DAMAGED} {feature.backend.path}: {problem}")
        return
    stored = feature.read(name)
    mean, sd = feature.pooled([name])
    if stored.dtype != dtype:
        try:
            stored = encode(stored.decode(), dtype)
        except ValueError as error:
            raise StoreError(f"{feature.name} of {name}: {error}, in another new store") from None
    shard.put(name, stored, mean[0], sd[0])


def _spec(spec: FeatureSpec, dtype: Dtype | None, compress: Compress | None) -> FeatureSpec:
    hidden_states = spec.layers > 1 or "weights" in spec.provenance
    changes = {"dtype": dtype if dtype and hidden_states else spec.dtype, "compress": compress}
    return spec.model_copy(update=changes)


def _choose_features(sources: Sequence[Store], features: Sequence[str]) -> list[str]:
    chosen = list(features) or list(sources[0].parts)
    for source in sources:
        for feature in chosen:
            there, expected = source.feature(feature), sources[0].feature(feature).spec
            check_plan(there.checksums, there.manifest["plan"], f"{feature} in {source.path}")
            differences = expected.differences(there.spec)
            if differences:
                raise StoreError(f"{feature} of {source.path} is not that of {sources[0].path}: {differences[0]}")
        others = set(source.parts) - set(chosen)
        if others and not features:
            raise StoreError(
                f"{', '.join(sorted(others))} of {source.path} is not in {sources[0].path}: choose some with --features"
            )
    return chosen


def _join_tables(sources: Sequence[Store]) -> pd.DataFrame:
    tables = [read_intact_table(source.backend).drop(columns=[*PLACES]) for source in sources]
    if len({source.dataset for source in sources}) > 1:
        tables = [
            table if "dataset" in table else table.assign(dataset=source.dataset)
            for source, table in zip(sources, tables, strict=True)
        ]
    table = join_tables(tables)
    twice = table.index[table.index.duplicated()]
    if len(twice):
        raise StoreError(f"{len(twice)} names are in more than one store, e.g. {', '.join(twice[:3])}")
    return table
