"""The JSON documents of a store: what each of them must hold, checked before anything of it is believed."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from featurestore.errors import StoreError

Tree = dict[str, Any]
RESERVED = ("", ".", "..", "attributes", "zarr.json")
"""Names that mean something else in a folder or an HDF5 group."""
COLUMN_KINDS = ("text", "float64", "int64", "bool")


def is_name(name: str) -> bool:
    """Return whether a feature can have this name: it is that of a folder, and leads nowhere else.

    >>> is_name("hubert-large"), is_name(".."), is_name("a/b")
    (True, False, False)
    """
    return name not in RESERVED and name[0] != "." and not {"/", "\0"} & set(name)


def _check_column(name: str) -> str:
    if name in RESERVED:
        raise ValueError(f"{name!r} is no name of a column")
    return name


Count = Annotated[int, Field(ge=0, lt=1 << 63)]
Checksum = Annotated[int, Field(ge=0, lt=1 << 32)]
Number = Annotated[str, Field(pattern="^[0-9]{1,18}$")]
Column = Annotated[str, AfterValidator(_check_column)]
Scale = Annotated[list[Annotated[float, Field(allow_inf_nan=False)]], Field(min_length=2, max_length=2)]


class Document(BaseModel):
    """What a document must hold; it may hold more."""

    model_config = ConfigDict(extra="allow", strict=True)


class Root(Document):
    """The attributes of the root, but for the format."""

    dataset: str
    ranges: dict[str, Scale]
    table_sha256: str
    left_out: dict[str, str]


class Table(Document):
    """The attributes of the utterance table."""

    columns: dict[Column, Literal["text", "float64", "int64", "bool"]]


class StoredFile(Document):
    """An array of a shard, in the record of the shard."""

    bytes: Count
    crc32c: Checksum


class ShardRecord(Document):
    """The record of a shard."""

    files: dict[str, StoredFile]
    utterances: Annotated[str, Field(pattern="^([0-9a-f]{8})*$")]
    failed: dict[str, str]
    flagged: dict[str, str] = {}


class Manifest(Document):
    """The manifest of a feature."""

    plan: dict[str, Checksum]
    shards: dict[Number, ShardRecord]


def checked(kind: type[Document], document: Tree, place: str) -> Tree:
    """Return ``document`` as it is, if it holds what a document of this kind must; it may hold more.

    Raises:
        StoreError: naming what is wrong.
    """
    try:
        kind.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise StoreError(f"{place} is damaged: {key}: {first['msg']}") from None
    return document
