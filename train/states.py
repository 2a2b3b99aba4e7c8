"""Hidden states on their way from the store into a model: decoded, and compared with what was stored of them."""

from __future__ import annotations

import numpy as np
import torch

from featurestore.codec import Floats, Frames
from featurestore.errors import SerError
from featurestore.feature import FeatureStore
from train.labels import some

AT_ONCE = 256
"""Utterances whose statistics are looked at together."""


def decode_into(out: torch.Tensor, frames: Frames) -> None:
    """Write the values of stored frames into ``out`` (layers, frames, dim), which may be on a GPU."""
    values = torch.from_numpy(np.array(frames.values))  # a copy: the map that it views is read-only
    if frames.dtype == "bfloat16":
        values = values.view(torch.bfloat16)
    if frames.dtype == "int4":
        values = torch.stack([values & 0xF, values >> 4], dim=-1).flatten(-2)[..., : frames.dim]
    if frames.scale is None or frames.offset is None:
        out.copy_(values)
        return
    scale, offset = (torch.from_numpy(np.array(part))[:, None] for part in (frames.scale, frames.offset))
    torch.addcmul(offset, values.to(torch.float32), scale, out=out)


def check_statistics(states: FeatureStore, names: list[str]) -> None:
    """Look at the mean and deviation over time of every utterance.

    Raises:
        SerError: naming utterances for which they are not finite.
    """
    bad: list[str] = []
    for first in range(0, len(names), AT_ONCE):
        group = names[first : first + AT_ONCE]
        finite = np.all(np.isfinite(states.pooled(group)), axis=(0, 2, 3))
        bad += [name for name, good in zip(group, finite.tolist(), strict=True) if not good]
    if bad:
        raise SerError(
            f"{states.name} of {some(bad)} is not finite: it is damaged; run ser-store repair, and extract again"
        )


def is_damaged(values: torch.Tensor, frames: Frames, mean: Floats, sd: Floats) -> bool:
    """Return whether decoded frames cannot be those whose statistics were stored.

    Args:
        values: (layers, frames, dim).
        frames: that they were decoded from.
        mean: over time, as it was stored with them, (layers, dim).
        sd: the same.
    """
    step = 0 if frames.scale is None else frames.scale
    rounding = np.abs(step) / 2 + 2**-7 * (np.abs(mean) + sd) + 1e-6  # of bfloat16 2**-8 of each value
    return not bool((np.abs(values.mean(dim=1).numpy() - mean) <= rounding).all())  # NaN is not
