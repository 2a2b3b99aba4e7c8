"""Fronts: from the stored frames of a feature to the frames of a stream, standardised, one vector a frame."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import nn
from typing_extensions import override

from featurestore.format.codec import Frames, bytes_per_frame
from featurestore.format.plan import Seconds
from featurestore.shared.config import Component
from featurestore.shared.errors import SerError
from train.numerics.align import Alignment, align_nearest
from train.numerics.layers import LayerSum
from train.reading.sources import Source, standardised

Normalize = Literal["train", "speaker", "corpus", "utterance", "none"]
"""By which mean and deviation a feature is standardised: those of the training part, of all that the store has of the
speaker, of the corpus, of the utterance itself, or none. No label is used for any of them."""
LayerWeights = list[float] | dict[str, list[float]]
"""What a stream has learned for its layers: one weight each, or for each target one weight each."""


class FrontModule(nn.Module):
    """A front: stored frames of some utterances -> (frames of all, views x dim).

    It also takes ``kept``, (utterances, dim): factors of the channels of each utterance, which are dropout.

    Attributes:
        dim: channels of a frame.
        views: one for all targets, or one for each.
    """

    dim: int
    views: int = 1

    def fit(self, source: Source, names: list[str]) -> None:
        """Take the statistics of the training part."""

    def layer_weights(self) -> torch.Tensor | None:
        """Return the weights of the layers, where they are learned: (layers,), or (views, layers) of several views."""
        return None


class Front(Component, ABC):
    """A way to hear a feature."""

    keeps_time: ClassVar[bool] = True
    """Whether it gives the frames of the feature; otherwise one for each utterance."""
    sums_layers: ClassVar[bool] = False
    """Whether its module is a `LayerSum`, which takes stored frames wherever they are."""

    def check(self, source: Source) -> None:
        """Check that a feature can be heard so.

        Raises:
            SerError: if it cannot.
        """

    def survey(self, source: Source, names: list[str]) -> list[str]:
        """Look at a feature of many utterances once, and return what is odd, a line each.

        Raises:
            SerError: naming those for which it is damaged.
        """
        source.check(names)
        return []

    @abstractmethod
    def read(self, source: Source, name: str) -> Frames:
        """Return the frames of an utterance in the form in which the module takes them."""

    def read_batch(self, source: Source, names: list[str]) -> list[Frames]:
        """Return the same of some utterances."""
        return [self.read(source, name) for name in names]

    def frame_bytes(self, source: Source) -> int:
        """Return how many bytes are read of a frame."""
        return bytes_per_frame(source.spec.dtype, source.count, source.spec.dim)

    @abstractmethod
    def build(self, source: Source, targets: int = 1) -> FrontModule:
        """Return the module for a feature, in a model of so many targets."""

    def align(self, frames: Frames, times: Seconds, clock: Seconds) -> Alignment:
        """Return where the frames of an utterance are at the times of a clock, both in seconds."""
        return align_nearest(times, clock)


class Layered(Front):
    """What the fronts of hidden states have in common."""

    sums_layers: ClassVar[bool] = True

    normalize: Normalize = "train"
    """By which mean and deviation each layer and channel is standardised: of the training part, of the speaker, of the
    corpus, of the utterance, or none."""

    @override
    def check(self, source: Source) -> None:
        check_speakers(source, self.normalize)

    @override
    def read(self, source: Source, name: str) -> Frames:
        frames = source.read(name)
        if self.normalize == "utterance":
            return standardised(frames, *source.own_moments(name))
        if self.normalize in ("speaker", "corpus"):
            return standardised(frames, *source.of_company(name, self.normalize, Source.moments))
        return frames

    def module(self, source: Source, learned: bool, top: int | None = None, views: int = 1) -> LayeredModule:
        """Return the sum over the layers of a feature, or over the ``top`` of them, for one view or several."""
        return LayeredModule(source.count, source.spec.dim, learned, self.normalize == "train", top, views)


def by_stream_and_target(learned: Mapping[str, LayerWeights]) -> dict[tuple[str, str], list[float]]:
    """Return the weights of the layers of each stream, and of each target, which is empty where all have the same."""
    each = {stream: of if isinstance(of, dict) else {"": of} for stream, of in learned.items()}
    return {(stream, target): weights for stream, of in each.items() for target, weights in of.items()}


def check_speakers(source: Source, normalize: Normalize) -> None:
    """Check that every speaker is known where a feature is standardised by speaker.

    Raises:
        SerError: if not.
    """
    if normalize == "speaker" and not (source.owners["speaker"] != "").all():
        raise SerError(f"{source.name} is to be standardised by speaker, and not every speaker is known")


def by_frame(kept: torch.Tensor, utterances: list[Frames]) -> torch.Tensor:
    """Return the factors of the channels of each utterance, (utterances, dim), for each of its frames."""
    lengths = torch.tensor([frames.values.shape[1] for frames in utterances], device=kept.device)
    return kept.repeat_interleave(lengths, dim=0)


class LayeredModule(FrontModule):
    """See `LayerSum`; standardised by the training part, or as the frames come."""

    def __init__(
        self, layers: int, dim: int, learned: bool, by_training_part: bool, top: int | None = None, views: int = 1
    ) -> None:
        super().__init__()
        self.layers = LayerSum(layers, dim, learned, top, views)
        self.dim, self.views, self._fits = dim, views, by_training_part

    @override
    def fit(self, source: Source, names: list[str]) -> None:
        if self._fits:
            self.layers.normalise_by(*source.moments(names))

    @override
    def layer_weights(self) -> torch.Tensor | None:
        return self.layers.weights().detach() if self.layers.logits.requires_grad else None

    @override
    def forward(self, utterances: list[Frames], kept: torch.Tensor | None = None) -> torch.Tensor:
        return self.layers(utterances, kept)
