"""The hidden states of every layer of a frozen speech encoder, exact in any batch."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field
from typing_extensions import override

from extract.audio import SAMPLING_RATE, Wave
from extract.encoders.checkpoint import load_model, load_normalize
from extract.encoders.device import compute_exactly
from extract.features import NO_ROW, Computed, Row, Stored
from extract.pretrained import ModelExtractor, ModelFeature
from featurestore.access.batch_order import batch_order
from featurestore.format.codec import Dtype, Floats
from featurestore.format.plan import FeatureSpec
from featurestore.shared.errors import SerError

if TYPE_CHECKING:
    import torch

    from extract.encoders.backbone import Backbone
    from extract.encoders.transfer import Outbox, Parcel

HOP = 0.02
SENDING = 16
"""Utterances that may be being copied from a GPU while the next ones are computed."""


class Encoder(ModelFeature):
    """Hidden states: layer 0 is the input of the first transformer layer, layer i the output of the i-th."""

    normalize: bool | None = None
    """Give each waveform zero mean and unit variance; as the checkpoint was trained when absent."""
    trim: bool = False
    """Whisper only: encode the frames that hold speech, instead of a whole window of 30 s."""
    epsilon: float = Field(default=1e-7, gt=0)
    """Added to the variance when waveforms are normalised (families that read waveforms): 1e-7 in transformers, 1e-5 in
    fairseq and s3prl, which changes the features of quiet speech by 6 to 9 %."""
    hidden_states: Literal["raw", "transformers5", "transformers4"] = "raw"
    """The last layer before the encoder's final norm, or as that version of transformers returns it: version 5 applies
    the norm in Whisper, version 4 (and s3prl) in large models, too."""
    window: float | None = Field(default=None, gt=0)
    """Encode longer audio in windows of so many seconds; when absent all at once, with Whisper in windows of 30 s."""
    overlap: float = Field(default=4.0, ge=0)
    """Overlap of neighbouring windows, in seconds; they are joined in the middle of it."""
    precision: Literal["float32", "float16", "bfloat16"] = "float32"
    """Precision of the computation."""
    layers: tuple[int, ...] | None = None
    """The layers to store, by number; all when absent."""
    time_pool: int = Field(default=1, ge=1)
    """Store means of so many frames each; the last mean is that of the frames that are left."""
    batch_seconds: float = Field(default=40.0, gt=0)
    """Audio in a batch, in seconds; does not change the features."""
    dtype: Dtype = "int8"
    """How its frames are stored."""

    @property
    def key(self) -> str:
        """The short name, or the name of the folder."""
        return self.short_name

    @override
    def build(self) -> EncoderExtractor:
        return EncoderExtractor(self)


class EncoderExtractor(ModelExtractor):
    """See `Encoder`."""

    feature: Encoder

    @override
    def settings(self) -> dict[str, Any]:
        window = self._window_frames and round(self._window_frames * HOP, 6)
        overlap = self.feature.overlap if window else None
        return {**super().settings(), "normalize": self._normalize, "window": window, "overlap": overlap}

    @cached_property
    def _layers(self) -> list[int]:
        """The numbers of the layers that are stored."""
        count, layers = self._config.num_hidden_layers + 1, self.feature.layers
        if layers is None:
            return list(range(count))
        if not layers or len(set(layers)) < len(layers) or not set(layers) <= {*range(count)}:
            expected = f"expected one or more of the layers 0 to {count - 1} of {self.feature.key}, each once"
            raise SerError(f"encoder.layers={list(layers)}: {expected}")
        return list(layers)

    @override
    def spec(self) -> FeatureSpec:
        origin = self.origin(self._backbone.model, "torch", "transformers")
        return self.as_spec(self._config.hidden_size, HOP * self.feature.time_pool, origin, layers=len(self._layers))

    @override
    def place(self, samples: int, row: Row = NO_ROW) -> tuple[int, float]:
        frames = self._family.count_frames(samples)
        if frames == 0:
            raise ValueError(f"{1000 * samples / SAMPLING_RATE:.4g} ms is shorter than one frame of {self.feature.key}")
        pooled = self.feature.time_pool
        return -(-frames // pooled), self._family.FIRST_FRAME + (min(pooled, frames) - 1) / 2 * HOP

    def compute(self, waves: Sequence[Wave], rows: Sequence[Row] = ()) -> Iterator[Computed]:
        """Yield the hidden states of each waveform, in batches of similar length.

        An utterance whose values half precision cannot hold is computed again in float32, and flagged.

        Raises:
            SerError: if memory does not suffice for a single utterance or window.
        """
        with self._naming_lack_of_memory(waves):
            for i, states in self._encode(self._backbone, waves):
                found = states.float().cpu().numpy()
                if np.isfinite(found).all():
                    yield Computed(i, mean_over_time(found, self.feature.time_pool))
                else:
                    yield self._again(i, waves[i])

    def compute_to_store(self, waves: Sequence[Wave], rows: Sequence[Row] = ()) -> Iterator[Computed | Stored]:
        """Yield the same as `compute`; a GPU encodes it for the store, and copies it while the next is computed."""
        from extract.encoders.transfer import Outbox

        if self.on_gpu and self.feature.time_pool == 1:
            yield from self.send(waves, Outbox(self._device, self.feature.dtype))
        else:
            yield from self.compute(waves, rows)

    def send(self, waves: Sequence[Wave], outbox: Outbox) -> Iterator[Computed | Stored]:
        """Yield the same as `compute`, encoded for the store; what cannot be stored is computed again in float32."""
        sent: deque[tuple[int, Parcel]] = deque()
        with self._naming_lack_of_memory(waves):
            for i, states in self._encode(self._backbone, waves):
                sent.append((i, outbox.send(states)))
                if len(sent) > SENDING:
                    yield self._received(*sent.popleft(), waves)
            while sent:
                yield self._received(*sent.popleft(), waves)

    def _received(self, i: int, parcel: Parcel, waves: Sequence[Wave]) -> Computed | Stored:
        return parcel.open(i) or self._again(i, waves[i])

    def _again(self, i: int, wave: Wave) -> Computed:
        ((_, states),) = self._encode(self._precise, [wave])
        precision = self.feature.precision
        flag = "" if precision == "float32" else f"computed in float32: {precision} gave values that cannot be stored"
        return Computed(i, mean_over_time(states.float().cpu().numpy(), self.feature.time_pool), flag)

    def _encode(self, backbone: Backbone, waves: Sequence[Wave]) -> Iterator[tuple[int, torch.Tensor]]:
        """Yield the position and the hidden states (layers, frames, dim) of each waveform, on the encoder's device."""
        import torch

        without_gradients = torch.inference_mode()  # as a decorator it is off while this generator waits
        yield from without_gradients(self._encode_short)(backbone, waves)
        yield from without_gradients(self._encode_long)(backbone, waves)

    @contextmanager
    def _naming_lack_of_memory(self, waves: Sequence[Wave]) -> Iterator[None]:
        """Turn an error about lack of memory into one that names the longest utterance and what helps."""
        try:
            yield
        except RuntimeError as error:
            if not is_lack_of_memory(error):
                raise
            longest, said = max(map(len, waves)) / SAMPLING_RATE, str(error).splitlines()[0]
            raise SerError(
                f"{self.feature.key} ran out of memory on {self._device}; the longest utterance has {longest:.0f} s: "
                f"cut long ones into windows with encoder.window=30, or use fewer --workers ({said})"
            ) from None

    def _encode_short(self, backbone: Backbone, waves: Sequence[Wave]) -> Iterator[tuple[int, torch.Tensor]]:
        """Yield the states of waveforms that fit into one window."""
        lengths = [self._family.count_frames(len(wave)) for wave in waves]
        short = [i for i, length in enumerate(lengths) if length <= (self._window_frames or length)]
        encoded = [lengths[i] if self.feature.trim else max(lengths[i], self._family.LEAST_FRAMES) for i in short]
        for batch in batch_order(encoded, frames=self._batch_frames):
            chosen = [short[position] for position in batch.tolist()]
            found = self._transform(backbone, [backbone.front(waves[i]) for i in chosen])
            for i, states in zip(chosen, found, strict=True):
                yield i, states[:, : lengths[i]]

    def _encode_long(self, backbone: Backbone, waves: Sequence[Wave]) -> Iterator[tuple[int, torch.Tensor]]:
        """Yield the states of waveforms that are longer than a window."""
        most = self._window_frames
        for i, wave in enumerate(waves):
            frames = self._family.count_frames(len(wave))
            if most is None or frames <= most:
                continue
            windows = cut_windows(frames, most, round(self.feature.overlap / HOP))
            fronts = backbone.fronts(wave, windows)
            size = max(1, self._batch_frames // len(fronts[0]))
            found: list[torch.Tensor] = []
            for begin in range(0, len(fronts), size):
                found += self._transform(backbone, fronts[begin : begin + size])
            yield i, join_windows(found, windows)

    @property
    def _batch_frames(self) -> int:
        return max(1, round(self.feature.batch_seconds / HOP))

    def _transform(self, backbone: Backbone, fronts: list[torch.Tensor]) -> list[torch.Tensor]:
        """Return the hidden states (layers, frames, dim) of a batch; if memory does not suffice, half by half."""
        try:
            return self._states(backbone, fronts)
        except RuntimeError as error:
            if len(fronts) == 1 or not is_lack_of_memory(error):
                raise
        half = len(fronts) // 2  # outside of the except block, where the memory of the failed attempt is free
        return self._transform(backbone, fronts[:half]) + self._transform(backbone, fronts[half:])

    def _states(self, backbone: Backbone, fronts: list[torch.Tensor]) -> list[torch.Tensor]:
        """Return the hidden states (layers, frames, dim) of a batch, given what enters the first layer."""
        import torch

        states = backbone.transform(fronts)
        if self.feature.hidden_states in backbone.NORMED_BY and backbone.final_norm is not None:
            states[-1] = backbone.final_norm(states[-1])
        chosen = torch.stack([states[layer] for layer in self._layers])
        return list(chosen.split([len(front) for front in fronts], dim=1))

    @cached_property
    def _window_frames(self) -> int | None:
        """The most frames that the transformer sees at once."""
        most, window, overlap = self._family.MOST_FRAMES, self.feature.window, self.feature.overlap
        if window is not None:
            asked = round(window / HOP)
            if asked < 1 or (most and asked > most):
                limit = f"at most {most * HOP:g} s, as {self.feature.key} has them" if most else f"at least {HOP:g} s"
                raise SerError(f"encoder.window={window:g}: expected windows of {limit}")
            most = asked
        if most and round(overlap / HOP) >= most:
            raise SerError(f"encoder.overlap={overlap:g}: expected less than the window, which is {most * HOP:g} s")
        return most

    @property
    def _normalize(self) -> bool:
        asked = self.feature.normalize
        return load_normalize(self._checkpoint) if asked is None else asked

    @cached_property
    def _family(self) -> type[Backbone]:
        from extract.encoders.families import FAMILIES

        return FAMILIES[self._config.model_type]

    @cached_property
    def _backbone(self) -> Backbone:
        return self._load(self.feature.precision)

    @cached_property
    def _precise(self) -> Backbone:
        return self._backbone if self.feature.precision == "float32" else self._load("float32")

    def _load(self, precision: str) -> Backbone:
        import torch

        from extract.encoders.backbone import Preprocessing

        compute_exactly(self._device)
        model = load_model(self._checkpoint).to(self._device, getattr(torch, precision))
        return self._family(model, Preprocessing(self._normalize, self.feature.epsilon, self.feature.trim))


def is_lack_of_memory(error: RuntimeError) -> bool:
    """Return whether an error of torch says that memory is exhausted, on a GPU or on a CPU."""
    import torch

    words = ("can't allocate memory", "could not create a primitive", "ALLOC_FAILED")  # of a CPU, oneDNN, CUDA's parts
    return isinstance(error, torch.OutOfMemoryError) or any(said in str(error) for said in words)


def cut_windows(frames: int, most: int, overlap: int) -> list[tuple[int, int]]:
    """Return the first frame of each window of ``most`` frames, and the one after its last; the last two overlap more.

    >>> cut_windows(25, 10, 4)
    [(0, 10), (6, 16), (12, 22), (15, 25)]
    """
    step = most - overlap
    starts = [*range(0, frames - most, step), max(0, frames - most)]
    return [(start, min(frames, start + most)) for start in starts]


def join_windows(states: Sequence[torch.Tensor], windows: Sequence[tuple[int, int]]) -> torch.Tensor:
    """Return the states (layers, frames, dim) of all frames, each from the window whose ends are further from it."""
    import torch

    seams = [(later[0] + earlier[1]) // 2 for earlier, later in pairwise(windows)]
    ends = zip([0, *seams], [*seams, windows[-1][1]], strict=True)
    parts = [one[:, a - start : b - start] for one, (start, _), (a, b) in zip(states, windows, ends, strict=True)]
    return torch.cat(parts, dim=1)


def mean_over_time(frames: Floats, count: int) -> Floats:
    """Return the means of ``count`` consecutive frames (layers, frames, dim); the last is that of the frames left.

    >>> mean_over_time(np.arange(5, dtype=np.float32).reshape(1, 5, 1), 2).ravel().tolist()
    [0.5, 2.5, 4.0]
    """
    if count == 1:
        return frames
    starts = np.arange(0, frames.shape[1], count)
    sizes = np.diff(np.append(starts, frames.shape[1])).astype(np.float32)
    sums: Floats = np.add.reduceat(frames, starts, axis=1)
    return np.divide(sums, sizes[:, None], dtype=np.float32)
