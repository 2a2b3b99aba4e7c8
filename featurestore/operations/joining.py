"""Join several datasets: their tables, names, scales, and what was left out of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from featurestore.shared.errors import StoreError


def join_datasets(names: Iterable[str]) -> str:
    """Return the joint name of several datasets, each of which may itself be joint.

    >>> join_datasets(["iemocap+emodb", "emodb"])
    'iemocap+emodb'
    """
    return "+".join(dict.fromkeys(name for joined in names for name in joined.split("+")))


def join_left_out(parts: Iterable[Mapping[str, str]], table: pd.DataFrame) -> dict[str, str]:
    """Return the utterances that were left out of several datasets, and are not in their joint ``table``."""
    return {name: why for part in parts for name, why in part.items() if name not in table.index}


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


def join_tables(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return the tables of different utterances as one; a column that a table lacks is empty in its rows.

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
    return joined.assign(**texts).astype(dict.fromkeys(gaps, float))  # truth values, some of them missing
