"""Several stores as one: the utterances of each under the name of its dataset, numbers on one scale from 0 to 1."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import featurestore
from featurestore.access.feature import FeatureStore
from featurestore.access.layers import Layers
from featurestore.access.store import Store
from featurestore.format.codec import Floats, Frames
from featurestore.format.plan import FeatureSpec, Ints, Seconds
from featurestore.shared.errors import SerError
from train.reading.labels import as_names

Scale = tuple[float, float]
ONE_SCALE: Scale = (0.0, 1.0)
"""Of the labels of several datasets: from the lowest to the highest value of the scale that each declares."""
GROUPS = ("speaker", "session")
"""Columns whose names are those of one dataset alone."""


class Rows:
    """The rows of all stores, one store after another."""

    def __init__(self, stores: dict[str, Store]) -> None:
        self._stores = stores
        counts = [len(store.index.shard) for store in stores.values()]
        self.begins = dict(zip(stores, np.cumsum([0, *counts[:-1]]).tolist(), strict=True))

    def __getitem__(self, name: str) -> int:
        dataset, own = split_name(name)
        if dataset not in self._stores:
            raise SerError(f"no utterance {name!r}: expected a name like {next(iter(self._stores))}/NAME")
        return int(self.begins[dataset]) + self._stores[dataset].index[own]


class Feature:
    """A feature that all stores have: what `FeatureStore` gives, by the names of all.

    Args:
        parts: that of each store, by dataset.

    Raises:
        SerError: if they are not the same feature, naming what differs.
    """

    def __init__(self, parts: dict[str, FeatureStore]) -> None:
        self.parts = parts
        (first, one), *others = parts.items()
        self.name, self.spec = one.name, one.spec
        for dataset, other in others:
            differences = self.spec.differences(other.spec)
            if differences:
                lines = "; ".join(differences).replace("in the store", f"in {first}")
                raise SerError(f"{one.name} is not the same: {lines.replace('asked for', f'in {dataset}')}")

    @property
    def path(self) -> str:
        """The paths of the stores."""
        return " + ".join(part.path for part in self.parts.values())

    @cached_property
    def lengths(self) -> Ints:
        """Frames of each row."""
        return np.concatenate([part.lengths for part in self.parts.values()])

    @cached_property
    def failed(self) -> dict[str, str]:
        """The utterances that have no frames, with the reason."""
        return {f"{key}/{name}": why for key, part in self.parts.items() for name, why in part.failed.items()}

    def times(self, name: str) -> Seconds:
        """Return the time of each frame of an utterance in seconds."""
        return self._of(name, FeatureStore.times)

    def checksum(self, name: str) -> str:
        """Return the checksum of what is stored of an utterance."""
        return str(self._of(name, FeatureStore.checksum))

    def frames(self, name: str) -> int:
        """Return the number of frames of an utterance."""
        return int(self._of(name, FeatureStore.frames))

    def read(self, name: str, layers: Layers = None) -> Frames:
        """Return the stored frames of an utterance."""
        return self._of(name, FeatureStore.read, layers)

    def pooled(self, names: Sequence[str]) -> tuple[Floats, Floats]:
        """Return mean and deviation over time of some utterances, (utterances, layers, dim)."""
        shape = len(names), self.spec.layers, self.spec.dim
        mean, sd = np.empty(shape, np.float32), np.empty(shape, np.float32)
        owned = [split_name(name) for name in names]
        for dataset, part in self.parts.items():
            places = [place for place, (owner, _) in enumerate(owned) if owner == dataset]
            if places:
                mean[places], sd[places] = part.pooled([owned[place][1] for place in places])
        return mean, sd

    def _of(self, name: str, method: Callable[..., Any], *arguments: Any) -> Any:
        dataset, own = split_name(name)
        return method(self.parts[dataset], own, *arguments)


class Corpora:
    """Several stores as one; see the module.

    Args:
        stores: of different datasets.

    Raises:
        SerError: if two of them are of one dataset.
    """

    def __init__(self, stores: Sequence[Store]) -> None:
        datasets = [store.dataset for store in stores]
        twice = sorted({dataset for dataset in datasets if datasets.count(dataset) > 1})
        if twice:
            paths = ", ".join(str(store.path) for store in stores if store.dataset == twice[0])
            raise SerError(f"{paths} are both of the dataset {twice[0]}: ser-store merge makes one store of them")
        self.stores = dict(zip(datasets, stores, strict=True))

    @property
    def path(self) -> str:
        """The paths of the stores."""
        return " + ".join(self.paths)

    @property
    def paths(self) -> list[str]:
        """The path of each store."""
        return [str(store.path) for store in self.stores.values()]

    @property
    def dataset(self) -> str:
        """The names of the datasets."""
        return "+".join(self.stores)

    @property
    def remote(self) -> bool:
        """Whether one of them is behind a URL."""
        return any(store.remote for store in self.stores.values())

    @property
    def table_sha256(self) -> str:
        """A digest of the tables."""
        return hashlib.sha256("".join(store.table_sha256 for store in self.stores.values()).encode()).hexdigest()

    @property
    def ranges(self) -> dict[str, Scale]:
        """The scale of each label that a dataset declares one for."""
        return {target: ONE_SCALE for store in self.stores.values() for target in store.ranges}

    @cached_property
    def index(self) -> Rows:
        """The rows by name."""
        return Rows(self.stores)

    @cached_property
    def utterances(self) -> pd.DataFrame:
        """The tables of all, with the column ``dataset``; a label that a dataset lacks is missing."""
        return pd.concat([_renamed(store) for store in self.stores.values()])

    @property
    def parts(self) -> dict[str, Any]:
        """The features that all stores have; see `Feature`."""
        first, *others = self.stores.values()
        shared = [name for name in first.features if all(name in other.features for other in others)]
        return {name: self.feature(name) for name in shared}

    @property
    def features(self) -> dict[str, FeatureSpec]:
        """What each of them is."""
        return {name: part.spec for name, part in self.parts.items()}

    def feature(self, name: str) -> Feature:
        """Return a feature of all stores.

        Raises:
            SerError: if one lacks it, or they are not the same.
        """
        if name not in self._features:
            self._features[name] = Feature({dataset: store.feature(name) for dataset, store in self.stores.items()})
        return self._features[name]

    @cached_property
    def _features(self) -> dict[str, Feature]:
        return {}


AnyStore = Store | Corpora
AnyFeature = FeatureStore | Feature


def open_stores(paths: Sequence[str | Path]) -> AnyStore:
    """Return a store, or several as one."""
    stores = [featurestore.open(path) for path in paths]
    return stores[0] if len(stores) == 1 else Corpora(stores)


def split_name(name: str) -> tuple[str, str]:
    """Return the dataset and the name in its store.

    >>> split_name("emodb/03a01Fa")
    ('emodb', '03a01Fa')
    """
    dataset, _, own = name.partition("/")
    return dataset, own


def _renamed(store: Store) -> pd.DataFrame:
    """Return the table of a store as one of many."""
    table = store.utterances
    table = table.set_axis(pd.Index([f"{store.dataset}/{name}" for name in table.index], name="name"))
    for target, (low, high) in store.ranges.items():
        if target in table and pd.api.types.is_numeric_dtype(table[target]):
            table[target] = (table[target] - low) / (high - low)
    for column in GROUPS:
        if column in table:
            names = as_names(table[column])
            table[column] = names.where(names == "", f"{store.dataset}/" + names)
    return table.assign(dataset=store.dataset)
