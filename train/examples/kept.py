"""The frames that stay on a device from batch to batch, where it has room for all of them."""

from __future__ import annotations

import torch

from featurestore.format.codec import Frames
from train.fronts import Front
from train.numerics.layers import on_device
from train.reading.sources import Source

SHARE_OF_DEVICE = 0.6
"""Of the memory of a device that is free, which a store may take."""


class Kept:
    """Frames on a device.

    Attributes:
        device: where they stay; None where they do not.
    """

    def __init__(self) -> None:
        self.device: torch.device | None = None
        self._asked: set[torch.device] = set()
        self._frames: dict[tuple[Source, str], Frames] = {}

    def stay_on(self, device: torch.device, size: int) -> None:
        """Keep what is read from now on there, if ``size`` bytes have room; later they fill it, so it is asked once."""
        if device not in self._asked:
            self._asked.add(device)
            room = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0
            self.device = device if size < SHARE_OF_DEVICE * room else None

    def read(self, front: Front, source: Source, names: list[str]) -> list[Frames]:
        """Return the frames of some utterances as a front reads them, from the device where they stay there."""
        if self.device is None or not front.sums_layers:
            return front.read_batch(source, names)
        for name in names:
            if (source, name) not in self._frames:
                self._frames[source, name] = on_device(front.read(source, name), self.device)
        return [self._frames[source, name] for name in names]
