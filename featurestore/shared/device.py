"""Where models run: the device that users name, or the first GPU."""

from __future__ import annotations

from typing import Any

from featurestore.shared.errors import SerError


def find_device(torch: Any, name: str | None) -> Any:
    """Return a device after checking that it works; None stands for the first GPU, or the CPU if there is none.

    Args:
        torch: the module, which this package itself does not import.
        name: ``cpu``, ``cuda``, ``cuda:1`` …

    Raises:
        SerError: if it cannot be used.
    """
    try:
        probe = torch.zeros(1, device=name or ("cuda" if torch.cuda.is_available() else "cpu"))
        probe.tolist()  # some devices hold no values, and fail here
    except (RuntimeError, AssertionError, ImportError) as error:
        reason = str(error).splitlines()[0]
        raise SerError(f"device={name} cannot be used: {reason}; choose another, e.g. cpu") from None
    return probe.device
