"""The sum over layers that begins every model: normalised, and weighted by learned or equal shares."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from featurestore.format.codec import Frames, unpack
from train.numerics.kernels import Floats, add_slopes, fold, frame_sums, weighted_sum

WIDEST = 8192
"""Channels of anything in a model."""
SMALLEST_SD = 1e-3  # a channel that is all but constant must not be blown up


class LayerSum(nn.Module):
    """Stored frames of some utterances -> (frames of all, sums x dim): layers normalised, and summed with weights.

    Args:
        layers: that are summed.
        dim: channels of each.
        learned: whether the weights are learned, as a softmax; otherwise they are equal.
        top: how many of the layers count, those with the largest weights; all when absent.
        sums: how many there are, each with weights of its own, side by side.
    """

    def __init__(self, layers: int, dim: int, learned: bool, top: int | None = None, sums: int = 1) -> None:
        super().__init__()
        self.top = top
        self.mean: torch.Tensor
        self.sd: torch.Tensor
        self.register_buffer("mean", torch.zeros(layers, dim))
        self.register_buffer("sd", torch.ones(layers, dim))
        self.dim = dim
        shape = (layers,) if sums == 1 else (sums, layers)
        self.logits = nn.Parameter(torch.zeros(shape), requires_grad=learned and layers > 1)

    def normalise_by(self, mean: Floats, sd: Floats) -> None:
        """Set what is subtracted from each layer and channel, and what divides it, both (layers, dim)."""
        self.mean.copy_(torch.from_numpy(mean))
        self.sd.copy_(torch.from_numpy(sd).clamp(min=SMALLEST_SD))

    def weights(self) -> torch.Tensor:
        """Return the weight of each layer, (layers,) or (sums, layers); they sum to one.

        Of those that do not count it is zero, but its gradient is that of the softmax over all, so that they may come
        back. Layers with the weight of the last that counts do count, as all do in the beginning.
        """
        soft = self.logits.softmax(dim=-1)
        if self.top is None:
            return soft
        counting = soft * (soft >= soft.topk(self.top).values[..., -1:])
        return (counting / counting.sum(dim=-1, keepdim=True)).detach() + (soft - soft.detach())

    def forward(self, utterances: list[Frames], kept: torch.Tensor | None = None) -> torch.Tensor:
        """Return the sums; ``kept`` (utterances, dim), all ones when absent, multiplies all frames of an utterance."""
        mix = _MixStored if self.mean.device.type == "cpu" else _MixOnDevice
        sums = [mix.apply(one, utterances, self.mean, self.sd, kept) for one in torch.atleast_2d(self.weights())]
        return sums[0] if len(sums) == 1 else torch.cat(sums, dim=1)

    def of_vectors(self, vectors: torch.Tensor, kept: torch.Tensor | None = None) -> torch.Tensor:
        """Return the same, (utterances, dim), of utterances that have one frame each: (utterances, layers, dim)."""
        summed = ((vectors - self.mean) / self.sd * self.weights()[:, None]).sum(dim=1)
        return summed if kept is None else summed * kept


class _MixStored(torch.autograd.Function):
    """The sum from the stored bytes, utterance by utterance; see `train.numerics.kernels`."""

    @staticmethod
    def forward(
        ctx: Any,
        weights: torch.Tensor,
        utterances: list[Frames],
        mean: torch.Tensor,
        sd: torch.Tensor,
        kept: torch.Tensor | None = None,
    ) -> torch.Tensor:
        mean_of, sd_of, kept_of = mean.numpy(), sd.numpy(), _factors(kept, utterances, mean).numpy()
        share, factor, constant = (
            weights.detach().numpy()[:, None] / sd_of,
            np.empty_like(sd_of),
            np.empty_like(sd_of[0]),
        )
        out = np.empty((sum(frames.values.shape[1] for frames in utterances), mean.shape[1]), np.float32)
        end = 0
        for frames, one in zip(utterances, kept_of, strict=True):
            begin, end = end, end + frames.values.shape[1]
            fold(share, *_full(frames, mean_of), mean_of, one, factor, constant)
            weighted_sum(frames, factor, constant, out[begin:end])
        ctx.utterances, ctx.mean, ctx.sd, ctx.kept = utterances, mean_of, sd_of, kept_of
        return torch.from_numpy(out)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        found, end = np.zeros(len(ctx.mean), np.float64), 0
        slopes = np.ascontiguousarray(gradient.numpy())
        for frames, one in zip(ctx.utterances, ctx.kept, strict=True):
            begin, end = end, end + frames.values.shape[1]
            sums, total = frame_sums(frames, slopes[begin:end]), slopes[begin:end].sum(axis=0)
            add_slopes(found, sums, total, *_full(frames, ctx.mean), ctx.mean, ctx.sd, one)
        return torch.from_numpy(found.astype(np.float32)), None, None, None, None


class _MixOnDevice(torch.autograd.Function):
    """The same by torch, on the device of the weights: the stored bytes of a batch go there, never their float32."""

    @staticmethod
    def forward(
        ctx: Any,
        weights: torch.Tensor,
        utterances: list[Any],
        mean: torch.Tensor,
        sd: torch.Tensor,
        kept: torch.Tensor | None = None,
    ) -> torch.Tensor:
        stored, scale, offset, owner = _packed(utterances, mean)
        kept = _factors(kept, utterances, mean)
        constant = torch.einsum("l,bld->bd", weights, (offset - mean) / sd) * kept
        out = constant[owner]
        factor = weights[:, None] * scale / sd * kept[:, None]
        for layer in range(len(weights)):
            out.addcmul_(factor[:, layer][owner], _decoded(stored, layer, utterances[0], mean.shape[1]))
        ctx.utterances, ctx.mean, ctx.sd, ctx.kept = utterances, mean, sd, kept
        return out

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        stored, scale, offset, owner = _packed(ctx.utterances, ctx.mean)
        gradient = gradient * ctx.kept[owner]
        blank = gradient.new_zeros(len(ctx.utterances), gradient.shape[1])
        total = blank.index_add(0, owner, gradient)
        found = []
        for layer in range(len(ctx.mean)):
            values = _decoded(stored, layer, ctx.utterances[0], gradient.shape[1])
            sums = blank.index_add(0, owner, gradient * values)
            of_layer = scale[:, layer] * sums + (offset[:, layer] - ctx.mean[layer]) * total
            found.append((of_layer / ctx.sd[layer]).sum())
        return torch.stack(found), None, None, None, None


def scale_and_offset(frames: Frames) -> tuple[Any, Any]:
    """Return the factor of what is stored, and what is added to it, (layers, dim) or a number."""
    if frames.scale is None or frames.offset is None:
        return np.float32(1), np.float32(0)
    return frames.scale, frames.offset


def _factors(kept: torch.Tensor | None, utterances: list[Any], mean: torch.Tensor) -> torch.Tensor:
    return mean.new_ones(len(utterances), mean.shape[1]) if kept is None else kept


def _full(frames: Frames, like: Floats) -> tuple[Floats, Floats]:
    """Return `scale_and_offset` of the shape of ``like``, (layers, dim)."""
    if frames.scale is not None and frames.offset is not None:
        return frames.scale, frames.offset
    return np.ones_like(like), np.zeros_like(like)


def _packed(utterances: list[Frames], mean: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Return what is stored on the device of ``mean``.

    Returns:
        The values (layers, frames of all, width), their scales and offsets (utterances, layers, dim), and to which
        utterance each frame belongs.
    """
    values: list[Any] = [on_device(frames, mean.device).values for frames in utterances]
    stored = torch.cat(values, dim=1)
    pairs = [scale_and_offset(on_device(frames, mean.device)) for frames in utterances]
    scale, offset = (
        torch.stack([torch.as_tensor(pair[i], device=mean.device).expand_as(mean) for pair in pairs]) for i in (0, 1)
    )
    lengths = torch.tensor([frames.values.shape[1] for frames in utterances], device=mean.device)
    return stored, scale, offset, torch.repeat_interleave(torch.arange(len(utterances), device=mean.device), lengths)


def on_device(frames: Frames, device: torch.device) -> Frames:
    """Return frames whose parts are tensors of a device, as they are stored."""
    if isinstance(frames.values, torch.Tensor):
        return frames
    found: dict[str, Any] = {part: getattr(frames, part) for part in ("values", "scale", "offset")}
    return replace(frames, **{part: _tensor(value, device) for part, value in found.items() if value is not None})


def _tensor(values: Any, device: torch.device) -> Any:
    return torch.tensor(values, device=device)


def _decoded(stored: torch.Tensor, layer: int, like: Frames, dim: int) -> torch.Tensor:
    """Return one layer as float32, without scale and offset."""
    values = stored[layer]
    if like.dtype == "bfloat16":
        values = values.view(torch.bfloat16)
    if like.dtype == "int4":
        values = unpack(values, values.new_empty((*values.shape[:-1], dim)))
    return values.to(torch.float32)
