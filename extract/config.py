"""What ser-extract is asked for: a dataset, an encoder, further features, and where the store goes."""

from __future__ import annotations

from typing import Any, Self

from pydantic import Field, create_model, model_validator

from extract.datasets import Dataset
from extract.features import Feature
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
    """The settings of ser-extract: each feature by its name (absent: not extracted), and these."""

    dataset: Dataset
    """The dataset by name, with its settings."""
    like: str | None = None
    """A store, a path or a URL, whose encoder, features and settings are taken where nothing else is said."""
    store: str | None = None
    """Where the store goes; stores/DATASET.zarr when absent."""
    shard_seconds: float = Field(default=164.0, gt=0)
    """Audio in a shard, the unit of work and of resumption; files grow with it."""

    workers: int | None = Field(default=None, ge=1)
    """Processes that work on shards side by side on this machine; when absent as many as there are cores, fewer for
    little audio, and an encoder on a GPU is computed in the process that was started, beside them. When given, each of
    them computes all features, on the GPU too."""
    scheduler: str | None = None
    """Address of a dask.distributed scheduler whose workers see the same files, e.g. tcp://10.0.0.1:8786."""
    grow: bool = False
    """Add the dataset's utterances to the store that is there, if it does not have them."""
    check_disk: bool = True
    """Refuse to start when the disk has no room for the result."""

    @model_validator(mode="before")
    @classmethod
    def _like(cls, values: Any) -> Any:
        """Fill up the settings of features from those of a store."""
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
            raise ValueError("workers are of this machine, those of a scheduler are its own: expected one of the two")
        return self

    def features(self) -> dict[str, Feature]:
        """Return the features that are asked for, by their names in the store."""
        found: dict[str, Feature] = {}
        for feature in (getattr(self, name) for name in Features.model_fields):
            if feature is not None and feature.key in found:
                raise ConfigError(f"the encoder's folder is called {feature.key}, as a feature is: rename the folder")
            if feature is not None:
                found[feature.key] = feature
        return found

    def store_path(self) -> str:
        """Return where the store goes."""
        return self.store or f"stores/{self.dataset.name}.zarr"
