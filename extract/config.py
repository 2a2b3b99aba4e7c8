"""The settings of ser-extract: a dataset, an encoder, further features, and where the store goes."""

from __future__ import annotations

from typing import Any, Self

from pydantic import Field, create_model, model_validator

from extract.datasets import Dataset
from extract.features import Extractors, Feature
from extract.features.encoder import Encoder
from featurestore.shared.config import Config
from featurestore.shared.errors import ConfigError

Features = create_model(
    "Features",
    __base__=Config,
    **{name: (Feature.kind(name) | None, None) for name in Feature.names()},  # type: ignore[call-overload]
)


class SelftestConfig(Config):
    """The settings of ser-extract --selftest."""

    encoder: Encoder
    """The encoder, with its settings."""


class ExtractConfig(Features):
    """The settings of ser-extract: each feature by its name (not extracted when absent), and those below."""

    dataset: Dataset
    """The dataset by name, with its settings."""
    like: str | None = None
    """A store (path or URL) whose encoder, features and settings are used, unless others are given."""
    store: str | None = None
    """Where the store goes; stores/DATASET.zarr when absent."""
    shard_seconds: float = Field(default=164.0, gt=0)
    """Audio in a shard, in seconds. A shard is the unit of work: a file, and the most that a killed process loses."""

    workers: int | None = Field(default=None, ge=1)
    """Processes that work on shards in parallel on this machine. When absent: one per core, fewer for little audio, and
    an encoder on a GPU runs in the first process, beside them. When given: each process computes all features, on the
    GPU, too."""
    scheduler: str | None = None
    """Address of a dask.distributed scheduler whose workers see the same files, e.g. tcp://10.0.0.1:8786."""
    grow: bool = False
    """Add those of the dataset's utterances that an existing store does not have."""
    check_disk: bool = True
    """Refuse to start when the disk has no room for the result."""

    @model_validator(mode="before")
    @classmethod
    def _like(cls, values: Any) -> Any:
        """Complete the settings of features with those of a store."""
        if isinstance(values, dict) and isinstance(values.get("like"), str):
            from extract.like import settings_like

            return settings_like(values["like"], values)
        return values

    @model_validator(mode="before")
    @classmethod
    def _same_tokens(cls, values: Any) -> Any:
        """Use the checkpoint of text for words, too, unless another one is given."""
        text, words = (values.get(name) if isinstance(values, dict) else None for name in ("text", "words"))
        if isinstance(text, dict) and isinstance(words, dict) and "checkpoint" in text:
            return {**values, "words": {"checkpoint": text["checkpoint"], **words}}
        return values

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.workers is not None and self.scheduler is not None:
            raise ValueError(
                "found both workers and scheduler, expected one of them: a scheduler has workers of its own"
            )
        return self

    def features(self) -> dict[str, Feature]:
        """Return the features to extract, by their names in the store."""
        found: dict[str, Feature] = {}
        for feature in (getattr(self, name) for name in Features.model_fields):
            if feature is not None and feature.key in found:
                raise ConfigError(f"the encoder's folder is called {feature.key}, like a feature: rename the folder")
            if feature is not None:
                found[feature.key] = feature
        return found

    def build(self) -> Extractors:
        """Return what computes the features, by their names in the store."""
        return {key: feature.build() for key, feature in self.features().items()}

    def store_path(self) -> str:
        """Return where the store goes."""
        return self.store or f"stores/{self.dataset.name}.zarr"
