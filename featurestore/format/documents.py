"""The JSON documents of a store: what each must hold, checked before any of it is used."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, NotRequired

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError, with_config
from pydantic_core import from_json
from typing_extensions import TypedDict

from featurestore.shared.errors import StoreError

Tree = dict[str, Any]
RESERVED = ("", ".", "..", "attributes", "zarr.json")
"""Names that mean something else in a folder or an HDF5 group."""
COLUMN_KINDS = ("text", "float64", "int64", "bool")
KINDS_OF = {"name": ("text",), "shard": ("int64",), "slot": ("int64",), "duration": ("float64", "int64")}
"""The kinds that some columns must have."""
MOST_SMALL = 1 << 27
"""The most bytes of a document; a larger one is refused."""
MOST_BRACKETS = 1 << 20
"""The most objects and lists in a document: an empty one takes twenty times as much memory as it has bytes."""


def is_name(name: str) -> bool:
    """Return whether a feature can have this name, which is that of a folder in the store.

    >>> is_name("hubert-large"), is_name(".."), is_name("a/b")
    (True, False, False)
    """
    return name not in RESERVED and name[0] != "." and not {"/", "\0"} & set(name)


def _check_column(name: str) -> str:
    if name in RESERVED:
        raise ValueError(f"a column cannot be named {name!r}")
    return name


def _check_kinds(columns: dict[str, str]) -> dict[str, str]:
    for column, kind in columns.items():
        if kind not in KINDS_OF.get(column, COLUMN_KINDS):
            raise ValueError(f"the column {column} is of {kind}, expected {KINDS_OF[column][0]}")
    return columns


def _check_hex(text: str) -> str:
    if 2 * len(bytes.fromhex(text)) != len(text):  # in a quarter of the time of a pattern
        raise ValueError("it holds other characters than hexadecimal digits")
    return text


Count = Annotated[int, Field(ge=0, lt=1 << 63)]
Checksum = Annotated[int, Field(ge=0, lt=1 << 32)]
Number = Annotated[str, Field(pattern="^[0-9]{1,18}$")]
Column = Annotated[str, AfterValidator(_check_column)]
Scale = Annotated[list[Annotated[float, Field(allow_inf_nan=False)]], Field(min_length=2, max_length=2)]


STRICT = with_config(ConfigDict(strict=True))
"""Documents must hold these keys, and may hold others. Checking dicts takes a third of the time of pydantic models."""


@STRICT
class Root(TypedDict):
    """The attributes of the root, but for the format."""

    dataset: str
    ranges: dict[str, Scale]
    table_sha256: str
    left_out: dict[str, str]


@STRICT
class Table(TypedDict):
    """The attributes of the utterance table."""

    columns: Annotated[dict[Column, Literal["text", "float64", "int64", "bool"]], AfterValidator(_check_kinds)]


@STRICT
class StoredFile(TypedDict):
    """An array of a shard, in the record of the shard."""

    bytes: Count
    crc32c: Checksum


@STRICT
class ShardRecord(TypedDict):
    """The record of a shard."""

    files: dict[str, StoredFile]
    utterances: Annotated[str, AfterValidator(_check_hex)]
    failed: dict[str, str]
    flagged: NotRequired[dict[str, str]]


@STRICT
class Manifest(TypedDict):
    """The manifest of a feature."""

    plan: dict[str, Checksum]
    shards: dict[Number, ShardRecord]


VALIDATORS: dict[type, TypeAdapter[Any]] = {kind: TypeAdapter(kind) for kind in (Root, Table, ShardRecord, Manifest)}


def parsed(content: bytes, place: str) -> Tree:
    """Return the JSON object in ``content``.

    Raises:
        StoreError: if it is none, or would take much more memory than any document of a store.
    """
    if len(content) > MOST_SMALL or content.count(b"[") + content.count(b"{") > MOST_BRACKETS:
        raise StoreError(
            f"{place} is damaged: it has {len(content)} bytes of JSON, more than any part of a store needs"
        )
    try:
        document = from_json(content, allow_inf_nan=False)  # in half of the time of json.loads
    except ValueError as error:
        raise StoreError(f"{place} is damaged: {error}") from None
    if not isinstance(document, dict):
        raise StoreError(f"{place} is damaged: it holds no JSON object")
    return document


def checked(kind: type, document: Tree, place: str) -> Tree:
    """Return ``document`` unchanged, after checking that it holds what a document of this kind must hold.

    Raises:
        StoreError: naming what is wrong.
    """
    try:
        VALIDATORS[kind].validate_python(document)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise StoreError(f"{place} is damaged: {key}: {first['msg']}") from None
    return document


def as_json(document: Any) -> bytes:
    """Return ``document`` as JSON; the same content always gives the same bytes."""
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n"
