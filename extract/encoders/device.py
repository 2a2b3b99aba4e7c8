"""Settings of torch with which a result does not depend on what else is computed."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def compute_exactly(device: torch.device) -> None:
    """Set torch up so that results depend neither on the batch nor on the number of cores."""
    import torch

    if device.type == "cpu":
        torch.set_num_threads(1)  # one process per core is faster, and the last bits of sums depend on their number
    torch.backends.cuda.matmul.allow_tf32 = False  # float32 means float32: features must not depend on the batch
    torch.backends.cudnn.allow_tf32 = False
