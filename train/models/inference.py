"""Models as they are made, and what they predict."""

from __future__ import annotations

import torch

from featurestore.format.plan import Ints
from featurestore.shared.device import find_device
from featurestore.shared.errors import SerError
from train.config import TrainConfig
from train.examples.examples import Examples
from train.models.model import Model
from train.models.seeds import WEIGHTS, seed_of

Outputs = dict[str, torch.Tensor]
"""Of each task, (utterances, outputs)."""


def make_model(examples: Examples, config: TrainConfig, seed: int) -> Model:
    """Return a model with the initial weights that a seed gives."""
    torch.default_generator.manual_seed(seed_of(seed, WEIGHTS))
    model = Model(config, examples.streams, examples.goals)
    return model.to(device_of(config.device))


def count_parameters(model: Model) -> int:
    """Return how many numbers a model learns."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def predict(model: Model, examples: Examples, order: list[Ints]) -> Outputs:
    """Return what a model predicts for some rows, in the batches of ``order``.

    Raises:
        SerError: if that is not finite.
    """
    model.eval()
    with torch.inference_mode():
        found = [model(batch) for batch in examples.batches(order)]
    return finite({task: torch.cat([one[task] for one in found]) for task in examples.goals})


def finite(outputs: Outputs) -> Outputs:
    """Return what a model predicts, in float32 on the CPU.

    Raises:
        SerError: if it is not finite.
    """
    outputs = {task: output.float().cpu() for task, output in outputs.items()}
    if not all(bool(output.isfinite().all()) for output in outputs.values()):
        raise SerError("a model predicts what is not finite; try a smaller optim.lr")
    return outputs


def predict_alone(model: Model, examples: Examples, names: list[str]) -> Outputs:
    """Return what a model predicts for some utterances, each alone, so that no other one changes a bit of it."""
    return predict(model, examples, [row[None] for row in examples.rows(names)])


def device_of(name: str | None) -> torch.device:
    """Return a device that can be used; the first GPU, or the CPU, where none is named.

    Raises:
        SerError: if it cannot be used.
    """
    return find_device(torch, name)


def slow_precision(config: TrainConfig) -> list[str]:
    """Return a remark where models compute in bfloat16 on a CPU that has no instructions for it."""
    if config.precision == "float32" or device_of(config.device).type != "cpu":
        return []
    if torch.backends.cpu.get_cpu_capability() != "AVX2":
        return []
    return [
        "precision=bfloat16 takes several times as long as float32 on a processor without AVX-512, such as that of "
        "this machine: leave it out"
    ]
