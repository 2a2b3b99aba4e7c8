"""Add utterances to a store: the new ones come after the old ones, in shards of their own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from featurestore.access.agreement import check_labels
from featurestore.access.writer import StoreWriter
from featurestore.format.backend import Backend
from featurestore.format.files import Array
from featurestore.format.layout import PLANNED, array_layouts, check_plan, plan_checksums, sealed
from featurestore.format.plan import (
    FeaturePlan,
    Plan,
    as_json_ranges,
    assign_shards,
    count_slots,
    number_slots,
    padded,
    place_frames,
)
from featurestore.format.table import check_intact, table_digest, write_table
from featurestore.format.zarr import Change
from featurestore.operations.joining import join_datasets, join_left_out, join_tables, merge_ranges
from featurestore.shared.errors import StoreError


def check_growth(writer: StoreWriter, plan: Plan, features: Mapping[str, FeaturePlan]) -> None:
    """Check that `grow` can add the utterances of ``plan``; nothing is written.

    Raises:
        StoreError: if the labels or features contradict the store, or an utterance is longer than its shards.
    """
    backend, there = writer.backend, writer.table
    check_labels(there, plan.table, backend.path)
    merge_ranges(backend.root()["ranges"], as_json_ranges(plan.ranges), backend.path)
    new = ~plan.table.index.isin(there.index)
    if new.any():
        _check_features(backend, features)
        frames = {name: feature.frames[new] for name, feature in features.items()}
        _check_lengths(plan.table[new], frames, _shard_frames(backend, features), backend.path)


def grow(writer: StoreWriter, plan: Plan, features: Mapping[str, FeaturePlan], shard_seconds: float) -> int:
    """Add the utterances of ``plan`` that the store does not have, in shards of their own; nothing is rewritten.

    Args:
        writer: of the store, locked.
        plan: of the utterances to add; those that the store has already must have the same labels.
        features: the plan of every feature of the store, for the utterances of ``plan``.
        shard_seconds: audio in a shard.

    Returns:
        How many utterances are new.

    Raises:
        StoreError: if the labels or features contradict the store, or an utterance is longer than its shards.
    """
    check_growth(writer, plan, features)
    backend, there = writer.backend, writer.table
    found = check_intact(backend, there)
    new = ~plan.table.index.isin(there.index)
    if not new.any():
        return 0
    old_shards = int(there["shard"].max()) + 1
    slots = count_slots(there["shard"].to_numpy(), there["slot"].to_numpy())
    shapes = _shard_frames(backend, features)
    extra = plan.table[new]
    frames = {name: feature.frames[new] for name, feature in features.items()}
    sizes = [extra["duration"].to_numpy(), np.ones(len(extra)), *(padded(count) for count in frames.values())]
    shard = assign_shards(sizes, [shard_seconds, slots, *shapes.values()])
    extra = extra.assign(shard=shard + old_shards, slot=number_slots(shard, slots) + old_shards * slots)
    table = _join(there, extra, str(found["dataset"]), plan.dataset)
    attributes = {
        **found,
        "dataset": join_datasets([str(found["dataset"]), plan.dataset]),
        "ranges": merge_ranges(found["ranges"], as_json_ranges(plan.ranges), backend.path),
        "table_sha256": table_digest(table),
        "left_out": join_left_out([found["left_out"], plan.left_out], table),
    }
    shards = old_shards + int(shard.max()) + 1
    with writer.change() as change:
        write_table(change, table)
        for name, feature in features.items():
            start = place_frames(frames[name], shard, shapes[name])[0] + old_shards * shapes[name]
            _extend_plan(change, backend, name, (start, frames[name], feature.times[new]))
            for array, layout in array_layouts(feature.spec, shapes[name], slots).items():
                change.sharded(f"features/{name}/{array}", layout, shards)
        change.group("", sealed(attributes))
    return len(extra)


def _extend_plan(change: Change, backend: Backend, name: str, added: tuple[Array, ...]) -> None:
    """Write the plan of a feature with the values of further utterances, in the order of `PLANNED`."""
    before = {array: backend.array(f"features/{name}/{array}") for array in PLANNED}
    planned = {array: np.concatenate([before[array], more]) for array, more in zip(PLANNED, added, strict=True)}
    spec, manifest = backend.spec(name), backend.manifest(name)
    if manifest is not None:
        check_plan(plan_checksums(spec, before), manifest["plan"], f"{name} in {backend.path}")
        change.manifest(name, {**manifest, "plan": plan_checksums(spec, planned)})
    for array, values in planned.items():
        change.array(f"features/{name}/{array}", values, "utterance")


def _check_features(backend: Backend, features: Mapping[str, FeaturePlan]) -> None:
    there = backend.features()
    if set(features) != set(there):
        raise StoreError(
            f"{backend.path} has the features {', '.join(there)}, which new utterances need, found "
            f"{', '.join(features)}: ask for exactly those of the store"
        )
    for name, feature in features.items():
        differences = backend.spec(name).differences(feature.spec)
        if differences:
            raise StoreError(f"{backend.path} has {name} with other settings: {'; '.join(differences)}")


def _shard_frames(backend: Backend, features: Iterable[str]) -> dict[str, int]:
    """Return how many frames of each feature fit into a shard."""
    return {name: backend.shard_shape(name, "data")[1] for name in features}


def _check_lengths(extra: pd.DataFrame, frames: Mapping[str, np.ndarray], shapes: dict[str, int], root: str) -> None:
    for name, counts in frames.items():
        too_long = np.flatnonzero(padded(counts) > shapes[name])
        if len(too_long):
            utterance = extra.index[too_long[0]]
            raise StoreError(
                f"{utterance} has {counts[too_long[0]]} frames of {name}, a shard of {root} has room for "
                f"{shapes[name]}: extract it into another store, then ser-store merge"
            )


def _join(there: pd.DataFrame, extra: pd.DataFrame, old: str, new: str) -> pd.DataFrame:
    """Return both tables as one; if the datasets differ, the column ``dataset`` says which one an utterance is from.

    If the labels have a column ``dataset`` themselves, it stays as it is.
    """
    if old != new and "dataset" not in there:
        there = there.assign(dataset=old)
    if "dataset" in there and "dataset" not in extra:
        extra = extra.assign(dataset=new)
    return join_tables([there, extra])
