"""How frames become bytes: float32, float16, or int8 with a scale per layer, channel and utterance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Dtype = Literal["float32", "float16", "int8"]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Frames:
    """The frames of one utterance as they are stored.

    The value of a frame is ``values * scale + offset``; ``scale`` and ``offset`` are absent where the
    values are stored as they are.

    Attributes:
        values: (layers, frames, dim).
        scale: (layers, dim), or None.
        offset: (layers, dim), or None.
    """

    values: npt.NDArray[Any]
    scale: Floats | None = None
    offset: Floats | None = None

    def decode(self) -> Floats:
        """Return the frames as float32, (layers, frames, dim)."""
        floats = self.values.astype(np.float32)
        if self.scale is not None and self.offset is not None:
            floats *= self.scale[:, None]
            floats += self.offset[:, None]
        return floats


def encode(frames: Floats, dtype: Dtype) -> Frames:
    """Return ``frames`` (layers, frames, dim) in the form that is stored.

    The error of ``int8`` is at most half a step, and a step is 1/255 of the range that the channel has in
    this utterance; that of ``float16`` is 2**-11 of the value.

    Raises:
        ValueError: if a value is not finite, or too large for float16.

    >>> stored = encode(np.array([[[0.0], [0.25], [1.0]]], np.float32), "int8")
    >>> stored.values.ravel().tolist(), stored.decode().ravel().round(2).tolist()
    ([-128, -64, 127], [0.0, 0.25, 1.0])
    """
    low, high = frames.min(axis=1), frames.max(axis=1)
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        layers = np.flatnonzero(~(np.isfinite(low) & np.isfinite(high)).all(axis=1)).tolist()
        raise ValueError(f"found values that are not finite in layers {layers}")
    if dtype == "int8":
        return _quantise(frames, low, high)
    if dtype == "float16":
        largest = float(max(high.max(), -low.min()))
        if largest > float(np.finfo(np.float16).max):
            raise ValueError(f"found the value {largest:.4g}, float16 ends at 65504: store it as float32 or int8")
    return Frames(frames.astype(dtype))


def _quantise(frames: Floats, low: Floats, high: Floats) -> Frames:
    scale = (high - low) / np.float32(255)
    offset = low + 128 * scale
    steps = (frames - offset[:, None]) / np.where(scale > 0, scale, 1)[:, None]
    return Frames(np.rint(steps).clip(-128, 127).astype(np.int8), scale, offset)
