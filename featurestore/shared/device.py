"""Where models run: the device that users name, or the first GPU."""

from __future__ import annotations

from typing import Any

from featurestore.shared.command import NO_MEMORY, lack_of
from featurestore.shared.errors import SerError


def find_device(torch: Any, name: str | None) -> Any:
    """Return a device after checking that it works; None stands for the first GPU, or the CPU if there is none.

    Args:
        torch: the module, which this package itself does not import.
        name: ``cpu``, ``cuda``, ``cuda:1`` …

    Raises:
        SerError: if it cannot be used.
    """
    asked = name or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        probe = torch.zeros(1, device=asked)
        probe.tolist()  # some devices hold no values, and fail here
    except (RuntimeError, AssertionError, ImportError) as error:
        reason = str(error).splitlines()[0]
        mend = "use fewer --workers" if lack_of(NO_MEMORY, error) else "choose another, e.g. cpu"
        raise SerError(f"device={asked} cannot be used: {reason}; {mend}") from None
    return probe.device
