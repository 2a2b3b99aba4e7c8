"""What all encoders share: from a waveform to the hidden states of every layer.

Every family has the same two steps. `Backbone.front` turns ONE waveform into the frames that enter the
transformer, so that nothing of another utterance (the statistics of a group norm, padding under a convolution)
can reach it. `Backbone.transform` runs the transformer on a padded batch of these, with a mask, which is exact.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from extract.audio import Wave

FRAME_SAMPLES = 320


@dataclass(frozen=True)
class Preprocessing:
    """What is done to a waveform before the encoder.

    Attributes:
        normalize: give it (or its log-mel frames) zero mean and unit variance.
        epsilon: added to that variance.
        trim: encode only the frames that hold speech, where the family would encode more.
    """

    normalize: bool
    epsilon: float
    trim: bool


class Backbone(ABC):
    """A loaded encoder of one family.

    Args:
        model: in evaluation mode, on its device and in its precision.
        preprocessing: of the waveforms.
    """

    FIRST_FRAME: ClassVar[float]
    """The time of the first frame's centre, in seconds."""
    LEAST_FRAMES: ClassVar[int] = 1
    """That are encoded, however short the waveform."""
    MOST_FRAMES: ClassVar[int | None] = None
    """That can be encoded at once."""

    def __init__(self, model: Any, preprocessing: Preprocessing) -> None:
        self.model, self.preprocessing = model, preprocessing

    @staticmethod
    @abstractmethod
    def count_frames(samples: int) -> int:
        """Return the number of frames of a waveform."""

    @abstractmethod
    def front(self, wave: Wave) -> torch.Tensor:
        """Return what enters the transformer for one waveform, (frames, dim)."""

    def fronts(self, wave: Wave, windows: Sequence[tuple[int, int]]) -> list[torch.Tensor]:
        """Return what enters the transformer for windows of a waveform, each given by its frames."""
        whole = self.front(wave)
        return [whole[start:stop] for start, stop in windows]

    def transform(self, frames: torch.Tensor, mask: torch.Tensor) -> None:
        """Run the transformer on a padded batch.

        Args:
            frames: (batch, time, dim).
            mask: (batch, time), true where there is a frame.
        """
        attended = None if mask.all() else mask[:, None, None, :].expand(-1, 1, mask.shape[1], -1)
        for block in self.blocks:
            output = block(frames, attended)
            frames = output[0] if isinstance(output, tuple) else output

    @property
    @abstractmethod
    def blocks(self) -> torch.nn.ModuleList:
        """The transformer's layers."""

    @property
    @abstractmethod
    def final_norm(self) -> torch.nn.Module | None:
        """The norm that the family applies after the last layer, if it has one there."""

    @contextmanager
    def recorded(self) -> Iterator[list[torch.Tensor]]:
        """Collect the input of the first layer and the output of each, (batch, time, dim), of every `transform`.

        We listen at the layers themselves because what ``output_hidden_states`` means differs between
        versions of transformers: some give the last state after the final norm, some before.
        """
        states: list[torch.Tensor] = []

        def before(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            states.append(args[0] if args else kwargs["hidden_states"])

        def after(_: Any, __: Any, output: Any) -> None:
            states.append(output[0] if isinstance(output, tuple) else output)

        handles = [self.blocks[0].register_forward_pre_hook(before, with_kwargs=True)]
        handles += [block.register_forward_hook(after) for block in self.blocks]
        try:
            yield states
        finally:
            for handle in handles:
                handle.remove()
