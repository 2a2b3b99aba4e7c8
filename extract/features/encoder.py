"""The hidden states of every layer of a frozen speech encoder, exact in any batch."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field, field_validator

from extract.audio import SAMPLING_RATE, Wave
from extract.encoders.checkpoint import Checkpoint, find, hash_weights, load_config, load_model
from extract.features import Feature
from featurestore.codec import Dtype, Floats
from featurestore.errors import SerError
from featurestore.plan import FeatureSpec

if TYPE_CHECKING:
    import torch

    from extract.encoders.backbone import Backbone

HOP = 0.02


class Encoder(Feature):
    """Hidden states: layer 0 is the input of the first transformer layer, layer i the output of the i-th."""

    checkpoint: str
    """A short name of checkpoints.yaml, or a local folder in Hugging Face's layout."""
    normalize: bool | None = None
    """Give each waveform zero mean and unit variance; as the checkpoint was trained when absent."""
    trim: bool = False
    """Whisper only: encode just the frames that hold speech instead of a window of 30 s."""
    final_norm: bool = False
    """Apply the encoder's final norm to the last layer, as transformers 4 and s3prl do, where it has one."""
    precision: Literal["float32", "float16", "bfloat16"] = "float32"
    """Of the computation."""
    layers: tuple[int, ...] | None = None
    """The layers to store, by number; all when absent."""
    time_pool: int = Field(default=1, ge=1)
    """Store the mean of so many frames instead of each; the last one is the mean of what is left."""
    device: str | None = None
    """``cpu``, ``cuda``, ``cuda:1`` …; the first GPU where there is one when absent."""
    batch_seconds: float = Field(default=40.0, gt=0)
    """Audio in a batch, padding included; does not change the features."""
    dtype: Dtype = "int8"

    @field_validator("checkpoint")
    @classmethod
    def _exists(cls, name: str) -> str:
        find(name)
        return name

    @property
    def key(self) -> str:
        """The short name, or the name of the folder."""
        return os.path.basename(os.path.abspath(self.checkpoint))

    def settings(self) -> dict[str, Any]:  # noqa: D102
        settings = super().settings()
        for key in ("device", "batch_seconds"):
            del settings[key]
        return {**settings, "checkpoint": self.key, "normalize": self._normalize}

    @cached_property
    def _layers(self) -> list[int]:
        """The numbers of the layers that are stored."""
        count = self._config.num_hidden_layers + 1
        wrong = [number for number in self.layers or () if not 0 <= number < count]
        if wrong or self.layers == () or len(set(self.layers or ())) < len(self.layers or ()):
            found = f"layers={list(self.layers or ())}"
            raise SerError(f"encoder.{found}: {self.key} has the layers 0 to {count - 1}, expected some, each once")
        return list(range(count)) if self.layers is None else list(self.layers)

    def spec(self) -> FeatureSpec:  # noqa: D102
        provenance = {
            "settings": self.settings(),
            "weights": hash_weights(self._backbone.model),
            "id": self._checkpoint.id,
            "revision": getattr(self._config, "_commit_hash", None) or self._checkpoint.revision,
            "versions": {p: version(p) for p in ("torch", "transformers")},
            "device": self._device.type,
        }
        return FeatureSpec(
            layers=len(self._layers),
            dim=self._config.hidden_size,
            hop=HOP * self.time_pool,
            dtype=self.dtype,
            compress=self.compress,
            provenance=provenance,
        )

    def place(self, samples: int) -> tuple[int, float]:  # noqa: D102
        frames = self._family.count_frames(samples)
        if frames == 0:
            milliseconds = 1000 * samples / SAMPLING_RATE
            raise ValueError(f"{milliseconds:.4g} ms is shorter than one frame of {self.key} (25 ms)")
        centre = (min(self.time_pool, frames) - 1) / 2 * HOP
        return -(-frames // self.time_pool), self._family.FIRST_FRAME + centre

    def compute(self, waves: Sequence[Wave]) -> Iterator[tuple[int, Floats]]:
        """Yield the hidden states of each waveform, in batches of similar length."""
        import torch

        lengths = [self._family.count_frames(len(wave)) for wave in waves]
        encoded = lengths if self.trim else [max(count, self._family.LEAST_FRAMES) for count in lengths]
        with torch.inference_mode(), self._backbone.recorded() as states:
            for batch in batch_by_length(encoded, round(self.batch_seconds / HOP)):
                states.clear()
                fronts = [self._backbone.front(waves[i]) for i in batch]
                frames = torch.nn.utils.rnn.pad_sequence(fronts, batch_first=True)
                counts = torch.tensor([len(front) for front in fronts], device=frames.device)
                mask = torch.arange(frames.shape[1], device=frames.device) < counts[:, None]
                self._backbone.transform(frames, mask)
                if self.final_norm and self._backbone.final_norm is not None:
                    states[-1] = self._backbone.final_norm(states[-1])
                for row, i in enumerate(batch):
                    chosen = torch.stack([states[layer][row, : lengths[i]] for layer in self._layers])
                    yield i, mean_over_time(chosen.float().cpu().numpy(), self.time_pool)

    @property
    def _normalize(self) -> bool:
        return self._checkpoint.normalize if self.normalize is None else self.normalize

    @cached_property
    def _checkpoint(self) -> Checkpoint:
        return find(self.checkpoint)

    @cached_property
    def _config(self) -> Any:
        return load_config(self._checkpoint)

    @cached_property
    def _family(self) -> Any:
        from extract.encoders import waveform, whisper

        return whisper if self._config.model_type == "whisper" else waveform

    @cached_property
    def _device(self) -> torch.device:
        import torch

        try:
            return torch.zeros(0, device=self.device or ("cuda" if torch.cuda.is_available() else "cpu")).device
        except (RuntimeError, AssertionError) as error:
            raise SerError(f"device={self.device} cannot be used: {str(error).splitlines()[0]}") from None

    @cached_property
    def _backbone(self) -> Backbone:
        import torch

        from extract.encoders.waveform import WaveformBackbone
        from extract.encoders.whisper import WhisperBackbone

        torch.backends.cuda.matmul.allow_tf32 = False  # float32 means float32: features must not depend on the batch
        torch.backends.cudnn.allow_tf32 = False
        kind = WhisperBackbone if self._config.model_type == "whisper" else WaveformBackbone
        model = load_model(self._checkpoint).to(self._device, getattr(torch, self.precision))
        return kind(model, self._normalize, self.trim)


def mean_over_time(frames: Floats, count: int) -> Floats:
    """Return the means of ``count`` consecutive frames (layers, frames, dim), the last one of what is left.

    >>> mean_over_time(np.arange(5, dtype=np.float32).reshape(1, 5, 1), 2).ravel().tolist()
    [0.5, 2.5, 4.0]
    """
    if count == 1:
        return frames
    starts = np.arange(0, frames.shape[1], count)
    sizes = np.diff(np.append(starts, frames.shape[1])).astype(np.float32)
    sums: Floats = np.add.reduceat(frames, starts, axis=1)
    return np.divide(sums, sizes[:, None], dtype=np.float32)


def batch_by_length(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Return positions in batches of similar length, each within ``budget`` frames with its padding.

    >>> batch_by_length([5, 9, 4, 30], 10)
    [[2, 0], [1], [3]]
    """
    batches: list[list[int]] = []
    for i in np.argsort(lengths, kind="stable").tolist():
        if batches and lengths[i] * (len(batches[-1]) + 1) <= budget:
            batches[-1].append(i)
        else:
            batches.append([i])
    return batches
