"""Check that an existing store holds the utterances and labels that are asked for."""

from __future__ import annotations

import numpy as np
import pandas as pd

from featurestore.format.backend import Backend
from featurestore.format.plan import PLACES, Plan, as_json_ranges
from featurestore.format.table import Columns, plain_columns
from featurestore.shared.errors import StoreError

FLAGS = "flags"
"""The column of remarks on utterances. It is not compared: a remark can depend on other utterances, e.g. on copies."""


def check_same(backend: Backend, there: pd.DataFrame, plan: Plan) -> None:
    """Check that a store holds the utterances of ``plan`` with the same labels; it may have more columns.

    Args:
        backend: of the store.
        there: the table of the store.
        plan: what the store should hold.

    Raises:
        StoreError: naming what is different.
    """
    root, found = backend.path, backend.root()
    for key, asked in (("dataset", plan.dataset), ("ranges", as_json_ranges(plan.ranges))):
        if found[key] != asked and ("dataset" not in there or "dataset" in plan.table):
            raise StoreError(f"{root} has {key} {found[key]}, expected {asked}; use another --store")
    if "dataset" in there and "dataset" not in plan.table:  # the store holds several datasets
        there = there[there["dataset"] == plan.dataset]
    new, gone = plan.table.index.difference(there.index), there.index.difference(plan.table.index)
    if len(new) or len(gone):
        some = ", ".join([*new[:2], *gone[:2]])
        raise StoreError(
            f"{root} holds other utterances or labels: {len(new)} utterances are new and {len(gone)} are gone, e.g. "
            f"{some}; ser-extract adds the new ones with grow=true; or use another store"
        )
    check_labels(there, plan.table, root)


def check_labels(there: pd.DataFrame, asked: pd.DataFrame, root: str) -> None:
    """Check that the utterances that are in both tables have the same labels; ``there`` may have more columns.

    Args:
        there: the table of the store.
        asked: the table that it should agree with.
        root: the path of the store, for the message.

    Raises:
        StoreError: naming the columns that are missing or different.
    """
    both = asked.index.intersection(there.index)
    columns = [column for column in asked.columns if column not in (*PLACES, FLAGS)]
    absent = [column for column in columns if column not in there]
    if absent and len(both):
        raise StoreError(f"{root} has no columns {absent}; add them with ser-store add-labels, or use another --store")
    mine, theirs = plain_columns(there.loc[both]), plain_columns(asked.loc[both])
    changed = [c for c in columns if len(both) and not _is_same(c, mine, theirs)]
    if changed:
        raise StoreError(f"{root} holds other labels: the columns {changed} have changed; use another --store")


def _is_same(column: str, mine: Columns, theirs: Columns) -> bool:
    one, other = mine[column], theirs[column]
    if isinstance(one, list) or isinstance(other, list):
        return isinstance(one, list) and one == other
    return np.array_equal(one, other, equal_nan=one.dtype.kind == "f" and other.dtype.kind == "f")
