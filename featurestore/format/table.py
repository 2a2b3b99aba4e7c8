"""The utterance table on disk: one array per column, text as UTF-8 bytes with offsets."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from featurestore.format.backend import Backend
from featurestore.format.documents import RESERVED, Tree
from featurestore.format.files import Array
from featurestore.format.layout import column_path, is_sealed
from featurestore.format.plan import Ints
from featurestore.format.zarr import Change
from featurestore.shared.errors import MALFORMED, StoreError

AXIS = "utterance"
_NOT_TEXT = re.compile("[\0\ud800-\udfff]")
Columns = dict[str, Array | list[str]]
"""Columns of numbers or truth values, and of text."""


def write_table(change: Change, table: pd.DataFrame) -> None:
    """Write ``table``, whose index is the utterances' names; missing text is stored as the empty string.

    Raises:
        StoreError: if a column has one of the `RESERVED` names, or a text cannot be stored.
    """
    columns = plain_columns(table)
    for column in columns:
        if column in RESERVED:
            raise StoreError(f"a column of the table cannot be named {column!r}; rename it in the label file")
    kinds = {column: "text" if isinstance(values, list) else values.dtype.name for column, values in columns.items()}
    change.group("table", {"columns": kinds})
    for column, values in columns.items():
        if isinstance(values, list):
            _write_text(change, column_path(column), values)
        else:
            change.array(column_path(column), values, AXIS)


def read_table(backend: Backend) -> pd.DataFrame:
    """Return the table that `write_table` wrote, indexed by name, as it was at one moment.

    Raises:
        StoreError: if it is damaged, or others keep changing it.
    """
    return backend.at_once(lambda: _read_columns(backend))


def _read_columns(backend: Backend) -> pd.DataFrame:
    columns = backend.columns()
    try:
        table = pd.DataFrame({column: read_column(backend, column, kind) for column, kind in columns.items()})
        table = table.set_index("name")
    except MALFORMED as error:
        raise StoreError(f"{backend.path}: table is damaged: {error}") from None
    if not table.index.is_unique:
        twice = table.index[table.index.duplicated()][0]
        raise StoreError(f"{backend.path}: table is damaged: the name {twice!r} is there twice")
    return table


def read_intact_table(backend: Backend) -> pd.DataFrame:
    """Return the table after checking it, so that a new one can be made of it.

    Raises:
        StoreError: if it is not as it was written, see `check_intact`.
    """
    table = read_table(backend)
    check_intact(backend, table)
    return table


def check_intact(backend: Backend, table: pd.DataFrame) -> Tree:
    """Check that a table and the attributes of the root are as they were written, and return the attributes.

    Raises:
        StoreError: if they have changed; new checksums would hide that.
    """
    attributes = backend.root()
    if table_digest(table) != attributes["table_sha256"] or not is_sealed(attributes):
        raise StoreError(f"{backend.path} is damaged, its table or attributes have changed; extract into a new store")
    return attributes


def read_column(backend: Backend, column: str, kind: str = "text") -> Array | list[str]:
    """Return one column: an array, or a list of text.

    Raises:
        StoreError: if it is damaged.
    """
    if kind != "text":
        return _array(backend, column_path(column), kind)
    content, offsets = read_text(backend, column)
    damaged = f"{backend.path}: {column_path(column)} is damaged"
    try:  # splitting at separators takes half the time of slicing
        texts = np.insert(np.frombuffer(content, np.uint8), offsets[1:-1], 0).tobytes().decode().split("\0")
    except (IndexError, UnicodeDecodeError) as error:
        raise StoreError(f"{damaged}: {error}") from None
    if len(texts) != len(offsets) - 1:
        raise StoreError(f"{damaged}: a text holds a NUL character")
    return texts


def read_text(backend: Backend, column: str) -> tuple[bytes, Ints]:
    """Return the bytes of all texts of a column, and the offset of each; the last offset is the end.

    Raises:
        StoreError: if bytes and offsets do not fit.
    """
    path = column_path(column)
    content, offsets = _array(backend, f"{path}/bytes", "uint8"), _array(backend, f"{path}/offsets", "int64")
    if not len(offsets) or offsets[0] or offsets[-1] != len(content) or (offsets[1:] < offsets[:-1]).any():
        raise StoreError(f"{backend.path}: {path} is damaged: its offsets do not fit its {len(content)} bytes of text")
    return content.tobytes(), offsets


def _array(backend: Backend, path: str, kind: str) -> Array:
    values = backend.array(path)
    if values.dtype.name != kind:
        raise StoreError(f"{backend.path}: {path} holds {values.dtype.name}, expected {kind}: it is damaged")
    return values


def table_digest(table: pd.DataFrame) -> str:
    """Return the SHA-256 of the table's content."""
    digest = hashlib.sha256()
    for column, values in plain_columns(table).items():
        if isinstance(values, list):
            kind, content = "U", "\0".join(values).encode()
        else:
            kind, content = values.dtype.kind, values.tobytes()
        digest.update(f"{column}\0{kind}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def plain_columns(table: pd.DataFrame) -> Columns:
    """Return each column, the names first, as int64, float64 (also if a number is missing), bool or text.

    Raises:
        StoreError: if a text cannot be stored: it holds a NUL character or a lone surrogate.
    """
    plain: Columns = {"name": _text("name", table.index)}
    for column in table.columns:
        series = table[column]
        if not pd.api.types.is_numeric_dtype(series):
            plain[column] = _text(column, series)
        elif series.hasnans or pd.api.types.is_float_dtype(series):
            plain[column] = series.to_numpy(np.float64, na_value=np.nan)
        else:
            plain[column] = series.to_numpy(bool if pd.api.types.is_bool_dtype(series) else np.int64)
    return plain


def _text(column: str, values: Iterable[Any]) -> list[str]:
    texts = ["" if pd.isna(value) else str(value) for value in values]
    for row, text in enumerate(texts):
        if _NOT_TEXT.search(text):
            raise StoreError(
                f"the column {column!r} holds {text!r} in row {row + 1}: text cannot hold a NUL character, or bytes "
                "that are not UTF-8"
            )
    return texts


def _write_text(change: Change, path: str, values: list[str]) -> None:
    encoded = [text.encode() for text in values]
    offsets = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
    change.group(path, {})
    change.array(f"{path}/offsets", offsets, f"{AXIS} + 1")
    change.array(f"{path}/bytes", np.frombuffer(b"".join(encoded), np.uint8), "byte")
