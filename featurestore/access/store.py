"""Reading a store: the utterances, the features, and the frames of any utterance, by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from featurestore.access.batches import batches
from featurestore.access.feature import FeatureStore
from featurestore.access.layers import Layers
from featurestore.access.statistics import to_dask
from featurestore.format.codec import Floats, Frames
from featurestore.format.documents import Root, checked
from featurestore.format.index import Index
from featurestore.format.layout import is_sealed
from featurestore.format.opening import open_backend
from featurestore.format.plan import FORMAT_VERSION, FeatureSpec
from featurestore.format.table import read_table
from featurestore.shared.config import suggest
from featurestore.shared.errors import StoreError

if TYPE_CHECKING:
    import pandas as pd


class Store:
    """A store of features, keyed by the names of the utterances; see `featurestore.open`."""

    def __init__(self, path: str | Path, partial: bool = False) -> None:
        self.backend, self._partial = open_backend(path, partial), partial
        self.path = self.backend.path
        if self.backend.interrupted():
            raise StoreError(f"{path} is being changed, or a change was interrupted: run ser-store repair {path}")
        if not self.backend.exists():
            raise StoreError(f"no store at {path}; ser-extract makes one")
        self._attributes = self.backend.attributes()
        version = self._attributes.get("format")
        if not isinstance(version, int):
            raise StoreError(f"{path} is not a store that ser-extract has made: its attributes have no format")
        if version > FORMAT_VERSION:
            raise StoreError(
                f"{path} has the format {version}, this version reads {FORMAT_VERSION}: update ser-featurestore"
            )
        if version < FORMAT_VERSION:
            raise StoreError(f"{path} has the format {version}, this version reads {FORMAT_VERSION}: extract it again")
        checked(Root, self._attributes, f"{self.path}: attributes")

    @override
    def __repr__(self) -> str:
        return f"Store({self.path}: {self.dataset}; {', '.join(self._planned) or 'no feature'})"

    @property
    def dataset(self) -> str:
        """The name of the dataset."""
        return str(self._attributes["dataset"])

    @property
    def remote(self) -> bool:
        """Whether the store is behind a URL."""
        return self.backend.files.remote

    @property
    def ranges(self) -> dict[str, tuple[float, float]]:
        """The scale on which the dataset declares V, A and D."""
        return {target: (low, high) for target, (low, high) in self._attributes["ranges"].items()}

    @property
    def left_out(self) -> dict[str, str]:
        """The utterances that are not in the store, with the reason."""
        return dict(self._attributes["left_out"])

    @property
    def table_sha256(self) -> str:
        """The digest of the table as it was written."""
        return str(self._attributes["table_sha256"])

    @property
    def sealed(self) -> bool:
        """Whether the attributes of the root are as they were written."""
        return is_sealed(self._attributes)

    @cached_property
    def utterances(self) -> pd.DataFrame:
        """The table, indexed by name: labels, speaker, session, split, path, duration (seconds) and others."""
        return read_table(self.backend)

    @cached_property
    def index(self) -> Index:
        """The rows by name."""
        return Index(self.backend)

    @cached_property
    def _planned(self) -> list[str]:
        return self.backend.features()

    @cached_property
    def _parts(self) -> dict[str, FeatureStore]:
        return {}

    @property
    def parts(self) -> dict[str, FeatureStore]:
        """Every feature that is planned, finished or not, by name."""
        return {name: self._feature(name) for name in self._planned}

    def _feature(self, name: str) -> FeatureStore:
        """Return a feature without reading the others, which may be damaged."""
        if name not in self._parts:
            self._parts[name] = FeatureStore(self.backend, name, self.index)
        return self._parts[name]

    @property
    def features(self) -> dict[str, FeatureSpec]:
        """The spec of each feature that can be read."""
        return {name: feature.spec for name, feature in self.parts.items() if feature.complete or self._partial}

    def feature(self, name: str) -> FeatureStore:
        """Return a feature to read from.

        Raises:
            StoreError: if it is not in the store, or not finished.
        """
        if name not in self._planned:
            raise StoreError(f"{self.path} has no feature {name!r}{suggest(name, self._planned)}")
        feature = self._feature(name)
        if not (self._partial or feature.complete):
            raise StoreError(
                f"{name} in {self.path} is unfinished ({len(feature.records)} of {feature.shards} shards): "
                "run the same ser-extract command again to finish it"
            )
        return feature

    def names(self, features: Sequence[str] = ()) -> list[str]:
        """Return the names of the utterances that have all of ``features``, in the order of the table."""
        failed = {name for feature in features for name in self.feature(feature).failed}
        return [name for name in self.index.names if name not in failed]

    def __getitem__(self, name: str) -> Utterance:
        self.index[name]  # an error if there is none
        return Utterance(self, name)

    def read(
        self, names: Sequence[str], features: Sequence[str], layers: Mapping[str, Layers] | None = None
    ) -> dict[str, list[Frames]]:
        """Return the stored frames of many utterances: for each feature a list in the order of ``names``.

        Args:
            names: of the utterances.
            features: to read.
            layers: to read, by feature; all of a feature that is not named.
        """
        layers = layers or {}
        return {f: [self.feature(f).read(name, layers.get(f)) for name in names] for f in features}

    def batches(self, names: Sequence[str], features: Sequence[str], **how: Any) -> Iterator[Any]:
        """Yield batches of utterances, read ahead in threads; see `featurestore.access.batches.batches`."""
        return batches({feature: self.feature(feature) for feature in features}, self.index, names, **how)

    def to_dask(self, feature: str, names: Sequence[str] | None = None) -> Any:
        """Return all frames of a feature as a dask array; see `featurestore.access.statistics.to_dask`."""
        return to_dask(self.feature(feature), self.names([feature]) if names is None else names)


def open_if_there(path: str | Path, partial: bool = False) -> Store | None:
    """Return the store at ``path``, None if there is none; the arguments are those of `featurestore.open`."""
    return Store(path, partial) if open_backend(path, partial).exists() else None


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
        import pandas as pd

        return pd.Series(self.store.utterances.loc[self.name])
