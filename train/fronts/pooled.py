"""The mean and the deviation over time that the store keeps of each utterance: one frame, and no other is read."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
import torch
from typing_extensions import override

from featurestore.format.codec import Frames, bytes_per_frame
from train.fronts import Front, FrontModule, LayeredModule
from train.reading.sources import AT_ONCE, Source


class Pooled(Front):
    """Mean and deviation of each channel side by side, layers summed with weights."""

    keeps_time: ClassVar[bool] = False

    normalize: Literal["train", "none"] = "train"
    """By which mean and deviation over utterances they are standardised: of the training part, or none."""
    learned: bool = True
    """Whether the weights of the layers are learned; otherwise all are equal."""

    @override
    def read(self, source: Source, name: str) -> Frames:
        return self.read_batch(source, [name])[0]

    @override
    def read_batch(self, source: Source, names: list[str]) -> list[Frames]:
        vectors = np.concatenate(source.pooled(names), axis=-1)
        return [Frames(one[:, None], "float32", one.shape[-1]) for one in vectors]

    @override
    def frame_bytes(self, source: Source) -> int:
        return bytes_per_frame("float32", source.count, 2 * source.spec.dim)

    @override
    def build(self, source: Source, targets: int = 1) -> FrontModule:
        return PooledModule(
            source.count, 2 * source.spec.dim, learned=self.learned, by_training_part=self.normalize == "train"
        )


class PooledModule(LayeredModule):
    """See `Pooled`; a batch is summed at once, as each utterance has one frame."""

    @override
    def forward(self, utterances: list[Frames], kept: torch.Tensor | None = None) -> torch.Tensor:
        vectors = torch.from_numpy(np.stack([frames.values[:, 0] for frames in utterances]))
        return self.layers.of_vectors(vectors.to(self.layers.mean.device), kept)

    @override
    def fit(self, source: Source, names: list[str]) -> None:
        if not self._fits:
            return
        count, total, squares = 0, 0.0, 0.0
        for first in range(0, len(names), AT_ONCE):
            vectors = np.concatenate(source.pooled(names[first : first + AT_ONCE]), axis=-1).astype(np.float64)
            count, total, squares = count + len(vectors), total + vectors.sum(0), squares + np.square(vectors).sum(0)
        mean = total / count
        sd = np.sqrt(np.maximum(squares / count - mean**2, 0))
        self.layers.normalise_by(np.asarray(mean, np.float32), np.asarray(sd, np.float32))
