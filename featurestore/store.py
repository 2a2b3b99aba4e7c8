"""Reading a store: the utterances, the features, and the frames of any utterance, by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from featurestore.codec import Floats, Frames
from featurestore.config import suggest
from featurestore.errors import StoreError, UnknownUtteranceError
from featurestore.layout import POOLED, array_layouts, shard_path
from featurestore.plan import FORMAT_VERSION, FeatureSpec, Seconds
from featurestore.shard import ShardReader
from featurestore.table import read_table
from featurestore.zarr3 import Array, read_array, read_json

MANY_NAMES = 20_000
"""From so many names on, looking for a similar one takes longer than a message is worth."""
Layers = slice | int | Sequence[int] | None


class Store:
    """A store of features, keyed by the names of the utterances; see `featurestore.open`."""

    def __init__(self, path: Path, partial: bool = False) -> None:
        self.path, self._partial = path, partial
        if not (path / "zarr.json").exists():
            raise StoreError(f"no store at {path}; ser-extract makes one")
        self._attributes: dict[str, Any] = read_json(path / "zarr.json")["attributes"]
        version = self._attributes.get("format")
        if not isinstance(version, int) or version > FORMAT_VERSION:
            raise StoreError(
                f"{path} has the format {version}, this version reads up to {FORMAT_VERSION}: update ser-featurestore"
            )

    @property
    def dataset(self) -> str:
        """The name of the dataset."""
        return str(self._attributes["dataset"])

    @property
    def ranges(self) -> dict[str, tuple[float, float]]:
        """The scale on which the dataset declares V, A and D."""
        return {target: (low, high) for target, (low, high) in self._attributes["ranges"].items()}

    @property
    def left_out(self) -> dict[str, str]:
        """The utterances that could not be planned, with the reason."""
        return dict(self._attributes["left_out"])

    @property
    def table_sha256(self) -> str:
        """The digest of the table that was planned."""
        return str(self._attributes["table_sha256"])

    @cached_property
    def utterances(self) -> pd.DataFrame:
        """The table, indexed by name: labels, speaker, session, split, path, duration (seconds) and others."""
        return read_table(self.path / "table")

    @cached_property
    def parts(self) -> dict[str, FeatureStore]:
        """Every feature that is planned, finished or not, by name."""
        folders = sorted(p for p in (self.path / "features").iterdir() if p.is_dir() and p.name[0] != ".")
        return {folder.name: FeatureStore(folder, self.utterances) for folder in folders}

    @property
    def features(self) -> dict[str, FeatureSpec]:
        """What each feature is that can be read."""
        return {name: part.spec for name, part in self.parts.items() if part.complete or self._partial}

    def feature(self, name: str) -> FeatureStore:
        """Return a feature to read from.

        Raises:
            StoreError: if it is not in the store, or not finished.
        """
        if name not in self.parts:
            raise StoreError(f"{self.path} has no feature {name!r}{suggest(name, self.parts)}")
        part = self.parts[name]
        if not (part.complete or self._partial):
            raise StoreError(
                f"{name} in {self.path} is unfinished ({part.written} of {part.shards} shards): "
                "run the same ser-extract command again to finish it"
            )
        return part

    def names(self, features: Sequence[str] = ()) -> list[str]:
        """Return the names of the utterances that have all of ``features``, in the order of the table."""
        failed = {name for feature in features for name in self.feature(feature).failed}
        return [name for name in self.utterances.index if name not in failed]

    def __getitem__(self, name: str) -> Utterance:
        if name not in self.utterances.index:
            raise _unknown(name, self.utterances.index, self.path)
        return Utterance(self, name)

    def read(
        self, names: Sequence[str], features: Sequence[str], layers: Mapping[str, Layers] | None = None
    ) -> dict[str, list[Frames]]:
        """Return the stored frames of many utterances: for each feature a list in the order of ``names``.

        Args:
            names: of the utterances.
            features: to read.
            layers: of each feature, all where it is not named.
        """
        layers = layers or {}
        return {f: [self.feature(f).read(name, layers.get(f)) for name in names] for f in features}


@dataclass(frozen=True)
class Utterance:
    """One utterance of a store: ``utterance[feature]`` and ``utterance[feature, layers]`` are its frames."""

    store: Store
    name: str

    def __getitem__(self, key: str | tuple[str, Layers]) -> Floats:
        """Return frames as float32 (layers, frames, dim); one layer given as a number drops that axis."""
        feature, layers = key if isinstance(key, tuple) else (key, None)
        frames = self.store.feature(feature).read(self.name, layers).decode()
        return frames[0] if isinstance(layers, Integral) else frames

    @property
    def labels(self) -> pd.Series[Any]:
        """The utterance's row of the table."""
        return pd.Series(self.store.utterances.loc[self.name])


class FeatureStore:
    """One feature of a store.

    Args:
        folder: of the feature.
        table: the utterance table.
    """

    def __init__(self, folder: Path, table: pd.DataFrame) -> None:
        self.folder, self._table = folder, table
        self.spec = FeatureSpec(**read_json(folder / "zarr.json")["attributes"])
        self._readers: dict[tuple[str, int], ShardReader] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_readers": {}}  # maps do not travel to other processes

    @cached_property
    def complete(self) -> bool:
        """Whether all of it is extracted."""
        return (self.folder / "manifest.json").exists()

    @cached_property
    def _manifest(self) -> dict[str, Any]:
        return dict(read_json(self.folder / "manifest.json"))

    @property
    def planned(self) -> dict[str, dict[str, int]]:
        """The checksums of the arrays that say where frames lie; none before the feature is complete."""
        return dict(self._manifest["plan"]) if self.complete else {}

    @cached_property
    def shards(self) -> int:
        """The number of shards."""
        return int(self._table["shard"].max()) + 1

    @property
    def written(self) -> int:
        """The number of shards that are there."""
        return len(self.records)

    @cached_property
    def records(self) -> dict[int, dict[str, Any]]:
        """Each shard's checksums and failures."""
        if self.complete:
            return dict(enumerate(self._manifest["shards"]))
        return {int(p.stem): read_json(p) for p in (self.folder / "shards").glob("[0-9]*.json")}

    @property
    def size(self) -> int:
        """The bytes of all shards."""
        return sum(file["bytes"] for record in self.records.values() for file in record["files"].values())

    @cached_property
    def failed(self) -> dict[str, str]:
        """The utterances that have no frames, with the reason."""
        failed = {name: why for record in self.records.values() for name, why in record["failed"].items()}
        unwritten = ~self._table["shard"].isin(self.records)
        return {**failed, **dict.fromkeys(self._table.index[unwritten], "not extracted yet")}

    @cached_property
    def frames(self) -> dict[str, int]:
        """The number of frames of each utterance, by name."""
        return dict(zip(self._table.index, read_array(self.folder / "frames").tolist(), strict=True))

    def times(self, name: str) -> Seconds:
        """Return the time of each frame of an utterance: the centre of its window, in seconds."""
        return self._time[name] + self.spec.hop * np.arange(self.frames[name], dtype=np.float64)

    def read(self, name: str, layers: Layers = None) -> Frames:
        """Return the stored frames of an utterance; ``layers`` selects some by number or slice.

        Raises:
            StoreError: if the utterance has none, with the reason.
        """
        if name not in self._place:
            raise _unknown(name, self._table.index, self.folder)
        if name in self.failed:
            raise StoreError(f"{name} has no {self.folder.name}: {self.failed[name]}")
        run, within = _layer_range(layers, self.spec.layers)
        shard, slot = self._place[name]
        frames = self._shard("data", shard).get(self._start[name] % self._shard_frames, self.frames[name], run)
        if self.spec.dtype != "int8":
            return Frames(frames[within])
        scale, offset = (self._shard(a, shard).get(slot % self._slots, 1, run)[:, 0] for a in ("scale", "offset"))
        return Frames(frames[within], scale[within], offset[within])

    def pooled(self, names: Sequence[str]) -> tuple[Floats, Floats]:
        """Return the mean and standard deviation over time, each (utterances, layers, dim)."""
        places = [self._place[name] for name in names]
        mean, sd = (
            np.stack([self._shard(array, shard).get(slot % self._slots, 1)[:, 0] for shard, slot in places])
            for array in POOLED
        )
        return mean, sd

    def shard_files(self, shard: int) -> dict[str, Path]:
        """Return the files of a shard by array."""
        return {array: shard_path(self.folder, array, shard) for array in self._layouts}

    @cached_property
    def _layouts(self) -> dict[str, Any]:
        return array_layouts(self.spec, self._shard_frames, self._slots)

    @cached_property
    def _shard_frames(self) -> int:
        return _shard_length(self.folder / "data")

    @cached_property
    def _slots(self) -> int:
        return _shard_length(self.folder / "mean")

    @cached_property
    def _place(self) -> dict[str, tuple[int, int]]:
        columns = (self._table[column].tolist() for column in ("shard", "slot"))
        return dict(zip(self._table.index, zip(*columns, strict=True), strict=True))

    @cached_property
    def _start(self) -> dict[str, int]:
        return dict(zip(self._table.index, read_array(self.folder / "start").tolist(), strict=True))

    @cached_property
    def _time(self) -> dict[str, float]:
        return dict(zip(self._table.index, read_array(self.folder / "time").tolist(), strict=True))

    def _shard(self, array: str, number: int) -> ShardReader:
        if (array, number) not in self._readers:
            layout = self._layouts[array]
            file = shard_path(self.folder, array, number)
            self._readers[array, number] = ShardReader(file, layout.shard, layout.chunk, layout.dtype)
        return self._readers[array, number]


def _layer_range(layers: Layers, count: int) -> tuple[slice, slice | Array]:
    """Return the contiguous run of layers to read, and which of them are wanted."""
    if layers is None or isinstance(layers, slice):
        wanted = np.arange(count)[layers or slice(None)]
    else:
        wanted = np.atleast_1d(layers)
        if wanted.size == 0 or wanted.min() < -count or wanted.max() >= count:
            raise IndexError(f"layers {layers} of a feature with {count} layers, numbered 0 to {count - 1}")
        wanted = wanted % count
    if wanted.size == 0:
        return slice(0, 1), wanted
    run = slice(int(wanted.min()), int(wanted.max()) + 1)
    whole = wanted.size == run.stop - run.start and (np.diff(wanted) == 1).all()
    return run, slice(None) if whole else wanted - run.start


def _unknown(name: str, names: pd.Index, path: Path) -> UnknownUtteranceError:
    near = suggest(name, names) if len(names) < MANY_NAMES else ""
    return UnknownUtteranceError(f"no utterance {name!r} in {path}{near}")


def _shard_length(array: Path) -> int:
    return int(read_json(array / "zarr.json")["chunk_grid"]["configuration"]["chunk_shape"][1])
