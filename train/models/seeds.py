"""Seeds of all that is drawn, which depend on the model's own seed and on nothing else."""

from __future__ import annotations

import numpy as np
import torch

WEIGHTS, ORDER, DROPOUT, UNLABELLED = range(4)
"""What is drawn."""


def seed_generators(seed: int, device: torch.device) -> None:
    """Seed what dropout draws from; torch.manual_seed takes a hundred times as long, and keeps a note of each call."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)


def seed_of(*parts: int) -> int:
    """Return the seed that a model's seed, what is drawn, and its epoch and step give."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0]) >> 1
