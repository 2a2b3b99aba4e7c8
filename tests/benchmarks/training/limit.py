"""The matrix products and attention kernels of the default model, and nothing else: python limit.py STORE FUSION

They are of the shapes that the batches of an epoch have: each frame alone without padding, and with it from the fusion
on. The first product also has the gradient of its input, which the weights of the layers need; the first one of pitch,
which has no weights before it, does not.
"""

from __future__ import annotations

import sys

import numpy as np
import torch
from laps import Laps
from ours import training_of
from torch.nn.functional import scaled_dot_product_attention

from train.models.schedule import epoch_order

WIDTH, HEADS, HIDDEN, PITCH = 128, 8, 128, 2
_noise = torch.randn(100_000_000)


def noise(*shape: int) -> torch.Tensor:
    """Return random numbers, made before anything is measured."""
    return _noise[: torch.Size(shape).numel()].view(shape)


def linear(rows: int, inputs: int, outputs: int, of_input: bool = True) -> None:
    """Do what nn.Linear takes, forward and backward."""
    values, weight, gradient = noise(rows, inputs), noise(outputs, inputs), noise(rows, outputs)
    torch.mm(values, weight.T)
    torch.mm(gradient.T, values)
    if of_input:
        torch.mm(gradient, weight)


def attention(utterances: int, frames: int, mask: torch.Tensor) -> None:
    """Do what the heads take, with the mask of the padding where there is any."""
    shape = utterances, HEADS, frames, WIDTH // HEADS
    query, key, value = (noise(*shape).requires_grad_() for _ in range(3))
    allowed = None if bool(mask.all()) else torch.zeros(mask.shape).masked_fill(~mask, -torch.inf)[:, None, None]
    scaled_dot_product_attention(query, key, value, allowed).backward(noise(*shape))


def step(lengths: torch.Tensor, dim: int, fusion: str, outputs: int) -> None:
    """Do what a batch takes."""
    longest, frames = int(lengths.max()), int(lengths.sum())
    rows = len(lengths) * longest
    linear(frames, dim, WIDTH)
    if fusion == "attention":
        linear(frames, PITCH, WIDTH, of_input=False)
        linear(rows, WIDTH, WIDTH)
        linear(rows, WIDTH, 2 * WIDTH)
        attention(len(lengths), longest, torch.arange(longest) < lengths[:, None])
        linear(rows, WIDTH, WIDTH)
    linear(len(lengths), WIDTH, HIDDEN)
    linear(len(lengths), HIDDEN, outputs)


def main(store: str, fusion: str) -> None:
    examples = training_of(store, fusion)._examples
    lengths, laps, epoch = torch.from_numpy(examples.lengths), Laps(), 0
    dim, outputs = examples.clock.source.spec.dim, sum(goal.outputs for goal in examples.goals.values())
    while True:
        for batch in epoch_order(np.arange(len(lengths)), examples.lengths, 32, np.random.default_rng(epoch)):
            step(lengths[torch.from_numpy(batch)], dim, fusion, outputs)
        laps(int(lengths.sum()))
        epoch += 1


main(*sys.argv[1:])
