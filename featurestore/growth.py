"""Adding utterances to a store: the new ones come after the old ones, in shards of their own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from featurestore.errors import StoreError
from featurestore.forms import Form
from featurestore.forms.zarr import ZarrForm
from featurestore.layout import PLANNED, array_layouts, check_plan, plan_checksums, sealed
from featurestore.plan import FeaturePlan, Plan, Ranges, assign_shards, number_slots, padded, place_frames
from featurestore.table import Columns, plain_columns, read_intact_table, read_table, table_digest, write_table

PLACES = ["shard", "slot"]
FLAGS = "flags"
"""The column of what is odd about an utterance, which can depend on the others, e.g. where two have the same audio."""


def as_json_ranges(ranges: Ranges) -> dict[str, list[float]]:
    """Return ranges as they are in the store's attributes."""
    return {target: list(scale) for target, scale in ranges.items()}


def check_same(form: Form, plan: Plan) -> None:
    """Check that a store holds the utterances of ``plan`` with the same labels; it may have more columns.

    Raises:
        StoreError: naming what is different.
    """
    there, root = read_table(form), form.path
    found = form.root()
    for key, asked in (("dataset", plan.dataset), ("ranges", as_json_ranges(plan.ranges))):
        if found[key] != asked and ("dataset" not in there or "dataset" in plan.table):
            raise StoreError(f"{root} has {key} {found[key]}, asked for was {asked}; use another --store")
    if "dataset" in there and "dataset" not in plan.table:  # it has grown out of several
        there = there[there["dataset"] == plan.dataset]
    new, gone = plan.table.index.difference(there.index), there.index.difference(plan.table.index)
    if len(new) or len(gone):
        some = ", ".join([*new[:2], *gone[:2]])
        raise StoreError(
            f"{root} holds other utterances or labels: {len(new)} utterances are new and {len(gone)} are gone, e.g. "
            f"{some}; ser-extract adds the new ones with grow=true; or use another store"
        )
    _check_labels(there, plan.table, root)


def check_growth(form: Form, plan: Plan, features: Mapping[str, FeaturePlan]) -> None:
    """See `featurestore.writer.StoreWriter.check_growth`."""
    there, root = read_table(form), form.path
    _check_labels(there, plan.table, root)
    merge_ranges(form.root()["ranges"], as_json_ranges(plan.ranges), root)
    new = ~plan.table.index.isin(there.index)
    if new.any():
        _check_features(form, features)
        frames = {name: feature.frames[new] for name, feature in features.items()}
        _check_lengths(plan.table[new], frames, _shard_frames(form, features), root)


def grow(form: ZarrForm, plan: Plan, features: Mapping[str, FeaturePlan], shard_seconds: float) -> int:
    """See `featurestore.writer.StoreWriter.grow`."""
    check_growth(form, plan, features)
    there, found = read_intact_table(form), form.root()
    new = ~plan.table.index.isin(there.index)
    if not new.any():
        return 0
    old_shards = int(there["shard"].max()) + 1
    slots = count_slots(there)
    shapes = _shard_frames(form, features)
    extra = plan.table[new]
    frames = {name: feature.frames[new] for name, feature in features.items()}
    sizes = [extra["duration"].to_numpy(), np.ones(len(extra)), *(padded(count) for count in frames.values())]
    shard = assign_shards(sizes, [shard_seconds, slots, *shapes.values()])
    extra = extra.assign(shard=shard + old_shards, slot=number_slots(shard, slots) + old_shards * slots)
    table = _join(there, extra, str(found["dataset"]), plan.dataset)
    attributes = {
        **found,
        "dataset": join_datasets([str(found["dataset"]), plan.dataset]),
        "ranges": merge_ranges(found["ranges"], as_json_ranges(plan.ranges), form.path),
        "table_sha256": table_digest(table),
        "left_out": join_left_out([found["left_out"], plan.left_out], table),
    }
    shards = old_shards + int(shard.max()) + 1
    with form.change() as change:
        write_table(change, table)
        for name, feature in features.items():
            group = f"features/{name}"
            start = place_frames(frames[name], shard, shapes[name])[0] + old_shards * shapes[name]
            added = dict(zip(PLANNED, (start, frames[name], feature.times[new]), strict=True))
            before = {array: form.array(f"{group}/{array}") for array in PLANNED}
            planned = {array: np.concatenate([before[array], added[array]]) for array in PLANNED}
            spec, manifest = form.spec(name), form.manifest(name)
            if manifest is not None:
                check_plan(plan_checksums(spec, before), manifest["plan"], f"{name} in {form.path}")
                change.manifest(name, {**manifest, "plan": plan_checksums(spec, planned)})
            for array, values in planned.items():
                change.array(f"{group}/{array}", values, "utterance")
            for array, layout in array_layouts(feature.spec, shapes[name], slots).items():
                change.sharded(f"{group}/{array}", layout, shards)
        change.group("", sealed(attributes))
    return len(extra)


def join_datasets(names: Iterable[str]) -> str:
    """Return the name of several datasets together, each of which may be of several.

    >>> join_datasets(["iemocap+emodb", "emodb"])
    'iemocap+emodb'
    """
    return "+".join(dict.fromkeys(name for joined in names for name in joined.split("+")))


def join_left_out(parts: Iterable[Mapping[str, str]], table: pd.DataFrame) -> dict[str, str]:
    """Return the utterances that were left out of several, and are not in the ``table`` of all of them."""
    return {name: why for part in parts for name, why in part.items() if name not in table.index}


def count_slots(table: pd.DataFrame) -> int:
    """Return the number of slots that each shard of a store has."""
    first = table.groupby("shard")["slot"].min()
    return int(first.loc[1]) if len(first) > 1 else int(table["slot"].max()) + 1


def _check_labels(there: pd.DataFrame, asked: pd.DataFrame, root: str) -> None:
    both = asked.index.intersection(there.index)
    columns = [column for column in asked.columns if column not in (*PLACES, FLAGS)]
    absent = [column for column in columns if column not in there]
    if absent and len(both):
        raise StoreError(f"{root} has no columns {absent}; add them with ser-store add-labels, or use another --store")
    mine, theirs = plain_columns(there.loc[both]), plain_columns(asked.loc[both])
    changed = [c for c in columns if len(both) and not _equal(c, mine, theirs)]
    if changed:
        raise StoreError(f"{root} holds other labels: the columns {changed} have changed; use another --store")


def _equal(column: str, mine: Columns, theirs: Columns) -> bool:
    one, other = mine[column], theirs[column]
    if isinstance(one, list) or isinstance(other, list):
        return isinstance(one, list) and one == other
    return np.array_equal(one, other, equal_nan=one.dtype.kind == "f" and other.dtype.kind == "f")


def merge_ranges(mine: dict[str, list[float]], theirs: dict[str, list[float]], root: str) -> dict[str, list[float]]:
    """Return the declared ranges of two sets of utterances together.

    Raises:
        StoreError: if they differ.
    """
    for target in mine.keys() & theirs.keys():
        if mine[target] != theirs[target]:
            raise StoreError(
                f"{root} declares {target} on {mine[target]}, what is to be added on {theirs[target]}: "
                "labels on different scales belong in different stores"
            )
    return {**mine, **theirs}


def _check_features(form: Form, features: Mapping[str, FeaturePlan]) -> None:
    there = form.features()
    if set(features) != set(there):
        raise StoreError(
            f"{form.path} has the features {', '.join(there)}: new utterances need all of them and no other, "
            f"asked for were {', '.join(features)}"
        )
    for name, feature in features.items():
        differences = form.spec(name).differences(feature.spec)
        if differences:
            raise StoreError(f"{form.path} has {name} with other settings: {'; '.join(differences)}")


def _shard_frames(form: Form, features: Iterable[str]) -> dict[str, int]:
    """Return the frames of each feature for which a shard has room."""
    return {name: form.shard_shape(name, "data")[1] for name in features}


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
    """Return both tables as one; where datasets differ, a column says which each utterance is from.

    A column of that name that the labels have of their own stays as it is.
    """
    if old != new and "dataset" not in there:
        there = there.assign(dataset=old)
    if "dataset" in there and "dataset" not in extra:
        extra = extra.assign(dataset=new)
    return join_tables([there, extra])


def join_tables(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return tables of different utterances as one; a column that one of them lacks is empty there.

    Raises:
        StoreError: if a column holds numbers in one and text in another.
    """
    tables = [table for table in tables if len(table)]
    kinds: dict[str, set[bool]] = {}
    for table in tables:
        for column in table:
            kinds.setdefault(str(column), set()).add(pd.api.types.is_numeric_dtype(table[column]))
    mixed = [column for column, numeric in kinds.items() if len(numeric) > 1]
    if mixed:
        raise StoreError(f"the columns {mixed} are numbers of some utterances, and text of others: make them the same")
    joined = pd.concat(tables)
    texts = {column: joined[column].fillna("") for column, numeric in kinds.items() if numeric == {False}}
    gaps = [column for column in joined if column not in texts and joined[column].dtype == object]
    return joined.assign(**texts).astype(dict.fromkeys(gaps, float))  # truth values of which some are missing
