"""The base of features of a frozen checkpoint: it is found, and recorded in the provenance."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, field_validator
from typing_extensions import override

from extract.encoders.checkpoint import MODELS, Checkpoint, find, hash_weights, load_config, short_names
from extract.encoders.private import commit_of
from extract.features import Extractor, Feature, versions_of
from featurestore.shared.device import find_device

if TYPE_CHECKING:
    import torch

NO_DIFFERENCE = ("device", "batch_seconds", "batch_tokens", "revision")
"""Settings that do not change a feature, or (revision) change only the weights, which are compared."""


class PretrainedFeature(Feature):
    """A feature that a frozen model computes, or its tokenizer."""

    models: ClassVar[Mapping[str, str]] = MODELS
    """The class of transformers for each model type that is expected."""

    checkpoint: str = Field(examples=short_names(text=False))
    """A short name of checkpoints.yaml, or a local folder in Hugging Face's layout."""
    revision: str | None = None
    """A commit, tag or branch on the hub, in place of the one in checkpoints.yaml."""

    @field_validator("checkpoint")
    @classmethod
    def _exists(cls, name: str) -> str:
        find(name)
        return name

    @property
    def short_name(self) -> str:
        """The short name of the checkpoint, or the name of its folder."""
        return os.path.basename(os.path.abspath(self.checkpoint))


class PretrainedExtractor(Extractor):
    """Computes a feature with a frozen checkpoint."""

    feature: PretrainedFeature

    @override
    def settings(self) -> dict[str, Any]:
        settings = super().settings()
        kept = {key: value for key, value in settings.items() if key not in NO_DIFFERENCE}
        return {**kept, "checkpoint": self.feature.short_name}

    @cached_property
    def _checkpoint(self) -> Checkpoint:
        found, revision = find(self.feature.checkpoint), self.feature.revision
        return found.model_copy(update={"revision": revision}) if revision else found

    @cached_property
    def _config(self) -> Any:
        return load_config(self._checkpoint, self.feature.models)

    def source(self) -> dict[str, Any]:
        """Return the origin of the checkpoint, for the provenance: its name on the hub or its folder, its commit."""
        place = self._checkpoint.id
        return {
            "id": os.path.abspath(place) if place and os.path.isdir(place) else place,
            "revision": commit_of(self._config) or self._checkpoint.revision,
        }


class ModelFeature(PretrainedFeature):
    """A feature that a forward pass of the frozen model computes, on a GPU if there is one."""

    device: str | None = None
    """``cpu``, ``cuda``, ``cuda:1`` …; when absent the first GPU, or the CPU."""


class ModelExtractor(PretrainedExtractor):
    """Computes a feature with a forward pass of the frozen model."""

    feature: ModelFeature

    @property
    @override
    def on_gpu(self) -> bool:
        return self._device.type != "cpu"

    def origin(self, model: torch.nn.Module, *packages: str) -> dict[str, Any]:
        """Return the provenance: the settings, the weights and where they come from, the versions of ``packages``."""
        return {
            "settings": self.settings(),
            "weights": hash_weights(model),
            **self.source(),
            "versions": versions_of(*packages),
            "device": self._device.type,
        }

    @cached_property
    def _device(self) -> torch.device:
        import torch

        return find_device(torch, self.feature.device)
