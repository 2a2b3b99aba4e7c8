"""The utterance table on disk: one Zarr array per column, text as UTF-8 bytes with offsets."""

from __future__ import annotations

import hashlib
from itertools import pairwise
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pandas as pd

from featurestore.errors import StoreError
from featurestore.zarr3 import Array, read_array, read_json, write_array, write_group

AXIS = "utterance"


def write_table(folder: Path, table: pd.DataFrame) -> None:
    """Write ``table``, whose index is the utterances' names; missing text is stored as the empty string."""
    columns = _columns(table)
    write_group(folder, {"columns": list(columns)})
    for column, values in columns.items():
        if values.dtype.kind == "U":
            _write_text(folder / quote(column, safe=" "), values)
        else:
            write_array(folder / quote(column, safe=" "), values, AXIS)


def read_table(folder: Path) -> pd.DataFrame:
    """Return the table that `write_table` wrote, indexed by name."""
    columns = read_json(folder / "zarr.json")["attributes"]["columns"]
    table = pd.DataFrame({column: _read_column(folder / quote(column, safe=" ")) for column in columns})
    return table.set_index("name")


def table_digest(table: pd.DataFrame) -> str:
    """Return the SHA-256 of the table's content, which names a plan."""
    digest = hashlib.sha256()
    for column, values in _columns(table).items():
        content = "\0".join(values).encode() if values.dtype.kind == "U" else values.tobytes()
        digest.update(f"{column}\0{values.dtype.kind}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def _columns(table: pd.DataFrame) -> dict[str, Array]:
    """Return each column as int64, float64, bool or text."""
    plain = {"name": np.asarray(table.index, dtype=str)}
    for column in table.columns:
        series = table[column]
        if pd.api.types.is_bool_dtype(series):
            plain[column] = series.to_numpy(bool)
        elif pd.api.types.is_integer_dtype(series):
            plain[column] = series.to_numpy(np.int64)
        elif pd.api.types.is_float_dtype(series):
            plain[column] = series.to_numpy(np.float64)
        else:
            plain[column] = np.asarray(["" if pd.isna(v) else str(v) for v in series], dtype=str)
    return plain


def _write_text(folder: Path, values: Array) -> None:
    encoded = [text.encode() for text in values]
    offsets = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
    write_group(folder)
    write_array(folder / "offsets", offsets, f"{AXIS} + 1")
    write_array(folder / "bytes", np.frombuffer(b"".join(encoded), np.uint8), "byte")


def _read_column(folder: Path) -> Array | list[str]:
    if read_json(folder / "zarr.json")["node_type"] == "array":
        return read_array(folder)
    content, offsets = read_array(folder / "bytes").tobytes(), read_array(folder / "offsets").tolist()
    if offsets[-1] != len(content):
        raise StoreError(f"{folder} holds {len(content)} bytes of text, expected {offsets[-1]}: it is damaged")
    try:
        return [content[a:b].decode() for a, b in pairwise(offsets)]
    except UnicodeDecodeError as error:
        raise StoreError(f"{folder} is damaged: {error}") from None
