"""Where encoders run, and that sums are the same there whatever else is computed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from featurestore.shared.errors import SerError

if TYPE_CHECKING:
    import torch


def find_device(name: str | None) -> torch.device:
    """Return the device of that name; when absent the first GPU where there is one.

    Raises:
        SerError: if it cannot be used.
    """
    import torch

    try:
        return torch.zeros(0, device=name or ("cuda" if torch.cuda.is_available() else "cpu")).device
    except (RuntimeError, AssertionError) as error:
        raise SerError(f"device={name} cannot be used: {str(error).splitlines()[0]}") from None


def compute_exactly(device: torch.device) -> None:
    """Make torch compute what depends neither on the batch nor on the number of cores."""
    import torch

    if device.type == "cpu":
        torch.set_num_threads(1)  # one process per core is faster, and the last bits of sums depend on their number
    torch.backends.cuda.matmul.allow_tf32 = False  # float32 means float32: features must not depend on the batch
    torch.backends.cudnn.allow_tf32 = False
