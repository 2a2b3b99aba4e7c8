"""From a GPU into the store: states are encoded on the GPU, and copied while the next ones are computed.

Extraction waits for these copies, and as float32 all layers of a large encoder have several times the bytes of int8.
The result is that of `featurestore.format.codec`, bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from extract.features import Stored
from featurestore.format.codec import ELEMENT, LARGEST, QUANTISED, STEPS, Dtype, Frames, pack

STORED = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Parcel:
    """Encoded states that are being copied into memory: the tensors are filled once ``arrived`` has happened.

    Attributes:
        tensors: values, mean, sd, peak, and for quantised data scale and offset.
        dtype: the stored data type.
        arrived: the event at the end of the copies; None if there is nothing to wait for.
    """

    tensors: Sequence[torch.Tensor]
    dtype: Dtype
    arrived: torch.cuda.Event | None

    def open(self, position: int) -> Stored | None:
        """Wait for the states of the waveform at ``position``, and return them; None if they cannot be stored."""
        if self.arrived is not None:
            self.arrived.synchronize()
        values, mean, sd, peak, *scales = self.tensors
        if not float(peak) <= LARGEST.get(
            self.dtype, np.finfo(np.float32).max
        ):  # so, and not with >, NaN is refused, too
            return None
        if not all(torch.isfinite(one).all() for one in (mean, sd, *scales)):
            return None
        bits = values.view(torch.int16) if self.dtype == "bfloat16" else values
        scale, offset = (one.numpy() for one in scales) if scales else (None, None)
        frames = Frames(bits.numpy().view(ELEMENT[self.dtype]), self.dtype, mean.shape[1], scale, offset)
        return Stored(position, frames, mean.numpy(), sd.numpy())


class Outbox:
    """Sends encoded states from a device into memory; from a GPU on a stream of its own.

    Args:
        device: where the states are.
        dtype: the stored data type.
    """

    def __init__(self, device: torch.device, dtype: Dtype) -> None:
        self._dtype: Dtype = dtype
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def send(self, states: torch.Tensor) -> Parcel:
        """Encode the states (layers, frames, dim) of one utterance, and begin to copy them into memory."""
        states = states.float()
        low, high = states.amin(dim=1), states.amax(dim=1)
        sd, mean = torch.std_mean(states, dim=1, correction=0)
        peak = torch.maximum(high.amax(), -low.amin())
        if self._dtype in QUANTISED:
            tensors = [*quantise(states, low, high, self._dtype)]
            tensors[1:1] = [mean, sd, peak]
        else:
            tensors = [states.to(STORED[self._dtype]), mean, sd, peak]
        if self._stream is None:
            return Parcel(tensors, self._dtype, None)
        self._stream.wait_stream(torch.cuda.current_stream(states.device))
        with torch.cuda.stream(self._stream):
            copies = []
            for tensor in tensors:
                copies.append(torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True))
                copies[-1].copy_(tensor, non_blocking=True)
                tensor.record_stream(self._stream)
            arrived = torch.cuda.Event()
            arrived.record(self._stream)
        return Parcel(copies, self._dtype, arrived)


def quantise(
    states: torch.Tensor, low: torch.Tensor, high: torch.Tensor, dtype: Dtype
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the values (layers, frames, stored width), scale and offset (layers, dim) of int8 or int4.

    Args:
        states: (layers, frames, dim), float32.
        low: the smallest value of each channel, (layers, dim).
        high: the largest, (layers, dim).
        dtype: ``int8`` or ``int4``.
    """
    first, last = STEPS[dtype]
    scale = (high - low) / torch.full_like(
        high, last - first
    )  # a GPU divides by a number by multiplying with its inverse
    offset = low - first * scale
    divisor = torch.where(scale > 0, scale, 1.0)
    steps = ((states - offset[:, None]) / divisor[:, None]).round().clamp(first, last)
    if dtype == "int8":
        return steps.to(torch.int8), scale, offset
    return pack(steps.to(torch.uint8)), scale, offset
