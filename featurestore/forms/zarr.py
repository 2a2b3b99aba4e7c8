"""A store as a folder in plain Zarr v3."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from pydantic_core import from_json

from featurestore.errors import MALFORMED, StoreError
from featurestore.files import Array, Files
from featurestore.forms import Change, Form, Record, ShardFiles, Tree
from featurestore.layout import ArrayLayout
from featurestore.plan import Ints
from featurestore.shard import BlockReader, ZarrShardWriter, open_zarr_shard
from featurestore.zarr3 import (
    array_document,
    as_json,
    group_document,
    publish,
    sharded_document,
    sync_folder,
    write_file,
)

STAGED = ".change"
"""A folder with the new state of every file that a change concerns; once it has this name the change has happened."""
REMOVED = ".removed"


class ZarrForm(Form):
    """A folder: a file per shard and array, and small ones."""

    compresses = True

    def __init__(self, files: Files) -> None:
        super().__init__(files)
        self._root = Path(files.root)

    def exists(self) -> bool:  # noqa: D102
        return self.files.exists("zarr.json")

    def interrupted(self) -> bool:  # noqa: D102
        return self.files.exists(STAGED)

    def attributes(self, group: str = "") -> Tree:  # noqa: D102
        return dict(self._json(_join(group, "zarr.json")).get("attributes", {}))

    def array(self, path: str) -> Array:  # noqa: D102
        with self._metadata(path) as metadata:
            dtype, (size,) = np.dtype(metadata["data_type"]), metadata["shape"]
            content = self.files.read(f"{path}/c/0") if size else b""
        if len(content) != size * dtype.itemsize:
            found = f"{len(content)} bytes, expected {size * dtype.itemsize}"
            raise StoreError(f"{self.files.place(path)} holds {found}: it is damaged")
        return np.frombuffer(content, dtype.newbyteorder("<")).astype(dtype, copy=False)

    def features(self) -> list[str]:  # noqa: D102
        return [name for name in self.files.folders("features") if name[0] != "."]

    def shard_shape(self, feature: str, array: str) -> tuple[int, int, int]:  # noqa: D102
        with self._metadata(f"features/{feature}/{array}") as metadata:
            layers, length, width = metadata["chunk_grid"]["configuration"]["chunk_shape"]
        return layers, length, width

    def manifest(self, feature: str) -> Tree | None:  # noqa: D102
        path = f"features/{feature}/manifest.json"
        return self._json(path) if self.files.exists(path) else None

    def records(self, feature: str) -> dict[int, Record]:  # noqa: D102
        folder = f"features/{feature}/shards"
        names = [name for name in self.files.children(folder) if name[0] != "."]
        return {int(name.removesuffix(".json")): self._json(f"{folder}/{name}") for name in names}

    def open_shard(  # noqa: D102
        self, feature: str, array: str, number: int, layout: ArrayLayout, starts: Ints, counts: Ints
    ) -> BlockReader:
        path = _shard(feature, array, number)
        return open_zarr_shard(partial(self.files.ranges, path), layout, self.files.place(path), starts, counts)

    def shard_place(self, feature: str, array: str, number: int) -> tuple[str, int]:  # noqa: D102
        return _shard(feature, array, number), 0

    def recover(self) -> None:  # noqa: D102
        staged = self._root / STAGED
        if staged.exists():
            _apply(staged, self._root)
        for gone in [self._root / f"{STAGED}.tmp", *self._root.glob(f"features/.*{REMOVED}")]:
            shutil.rmtree(gone, ignore_errors=True)

    @contextmanager
    def change(self) -> Iterator[Change]:  # noqa: D102
        self.recover()
        new = not self._root.exists()
        stage = self._root.with_name(f".{self._root.name}.tmp") if new else self._root / f"{STAGED}.tmp"
        shutil.rmtree(stage, ignore_errors=True)
        stage.mkdir(parents=True)
        change = _ZarrChange(stage, self)
        try:
            yield change
        except BaseException:
            shutil.rmtree(stage, ignore_errors=True)
            raise
        change.sync()
        if new:
            publish(stage, self._root)
        else:
            publish(stage, self._root / STAGED)
            self.recover()
        for feature in change.removed:
            os.rename(self._root / "features" / feature, self._root / "features" / f".{feature}{REMOVED}")
        self.recover()

    def write_shard(self, feature: str, number: int, layouts: dict[str, ArrayLayout]) -> ShardFiles:  # noqa: D102
        return _ZarrShard({array: (self._root / _shard(feature, array, number), layouts[array]) for array in layouts})

    def write_record(self, feature: str, number: int, record: Record) -> None:  # noqa: D102
        write_file(self._root / "features" / feature / "shards" / f"{number}.json", as_json(record))

    def drop_record(self, feature: str, number: int) -> None:  # noqa: D102
        (self._root / "features" / feature / "shards" / f"{number}.json").unlink(missing_ok=True)

    def clear(self, feature: str, keep_records: bool) -> None:  # noqa: D102
        folder = self._root / "features" / feature
        for temporary in folder.rglob(".*.tmp"):
            temporary.unlink()
        if not keep_records:
            shutil.rmtree(folder / "shards", ignore_errors=True)

    @contextmanager
    def _metadata(self, array: str) -> Iterator[Tree]:
        """Give out what the ``zarr.json`` of an array says, for as long as it is trusted."""
        metadata = self._json(f"{array}/zarr.json")
        try:
            yield metadata
        except (*MALFORMED, FileNotFoundError) as error:
            raise StoreError(f"{self.files.place(array)} is damaged: {error!r}") from None

    def _json(self, path: str) -> Tree:
        try:
            document = from_json(self.files.read(path))  # in half of the time of json.loads
        except FileNotFoundError:
            raise StoreError(f"no {self.files.place(path)}") from None
        except ValueError as error:
            raise StoreError(f"{self.files.place(path)} is damaged: {error}") from None
        if not isinstance(document, dict):
            raise StoreError(f"{self.files.place(path)} is damaged: it holds no JSON object")
        return document


class _ZarrChange(Change):
    """Writes every file into a folder of its own, which then takes its name."""

    def __init__(self, stage: Path, form: ZarrForm) -> None:
        self._stage, self._form = stage, form
        self.removed: list[str] = []

    def group(self, path: str, attributes: Tree) -> None:
        self._write(_join(path, "zarr.json"), as_json(group_document(attributes)))

    def array(self, path: str, values: Array, dimension: str) -> None:
        self._write(f"{path}/zarr.json", as_json(array_document(values.shape, values.dtype, [dimension])))
        if values.size:
            self._write(f"{path}/c/0", np.ascontiguousarray(values, values.dtype.newbyteorder("<")).tobytes())

    def sharded(self, path: str, layout: ArrayLayout, shards: int) -> None:
        self._write(f"{path}/zarr.json", as_json(sharded_document(layout, shards)))

    def manifest(self, feature: str, manifest: Tree) -> None:
        self._write(f"features/{feature}/manifest.json", as_json(manifest))

    def remove(self, feature: str) -> None:
        self.removed.append(feature)

    def sync(self) -> None:
        for folder, _, files in os.walk(self._stage):
            for name in files:
                with open(os.path.join(folder, name), "rb") as file:
                    os.fsync(file.fileno())
            sync_folder(Path(folder))

    def _write(self, path: str, content: bytes) -> None:
        file = self._stage / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)


class _ZarrShard(ShardFiles):
    def __init__(self, places: dict[str, tuple[Path, ArrayLayout]]) -> None:
        self._writers = {array: ZarrShardWriter(path, layout) for array, (path, layout) in places.items()}
        self.arrays = {**self._writers}

    def close(self) -> dict[str, dict[str, int]]:
        return {array: writer.close() for array, writer in self._writers.items()}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for writer in self._writers.values():
            writer.abort()


def _apply(staged: Path, root: Path) -> None:
    """Put the files of a change in their places; can be interrupted and repeated."""
    for folder, _, names in os.walk(staged):
        place = root / Path(folder).relative_to(staged)
        place.mkdir(parents=True, exist_ok=True)
        for name in names:
            os.replace(os.path.join(folder, name), place / name)
        sync_folder(place)
    shutil.rmtree(staged)
    sync_folder(root)


def _shard(feature: str, array: str, number: int) -> str:
    return f"features/{feature}/{array}/c/0/{number}/0"


def _join(group: str, name: str) -> str:
    return f"{group}/{name}" if group else name
