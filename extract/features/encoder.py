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

    def spec(self) -> FeatureSpec:  # noqa: D102
        provenance = {
            "settings": self.settings(),
            "weights": hash_weights(self._backbone.model),
            "id": self._checkpoint.id,
            "revision": getattr(self._config, "_commit_hash", None) or self._checkpoint.revision,
            "versions": {p: version(p) for p in ("torch", "transformers")},
            "device": self._device.type,
        }
        layers = self._config.num_hidden_layers + 1
        dim = self._config.hidden_size
        return FeatureSpec(layers=layers, dim=dim, hop=HOP, dtype=self.dtype, provenance=provenance)

    def place(self, samples: int) -> tuple[int, float]:  # noqa: D102
        frames = self._family.count_frames(samples)
        if frames == 0:
            milliseconds = 1000 * samples / SAMPLING_RATE
            raise ValueError(f"{milliseconds:.4g} ms is shorter than one frame of {self.key} (25 ms)")
        return frames, self._family.FIRST_FRAME

    def compute(self, waves: Sequence[Wave]) -> Iterator[tuple[int, Floats]]:
        """Yield the hidden states of each waveform, in batches of similar length."""
        import torch

        lengths = [self.place(len(wave))[0] for wave in waves]
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
                    yield i, torch.stack([state[row, : lengths[i]] for state in states]).float().cpu().numpy()

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
