"""What all encoders share: from a waveform to the hidden states of every layer.

Every family has the same two steps. `Backbone.front` turns ONE waveform into the frames that enter the first layer,
so that no other utterance (through the statistics of a group norm, or padding under a convolution) can affect it.
`Backbone.transform` runs the layers on many utterances, concatenated without padding: layers that act on single
frames process all of them at once, and attention is told where each utterance begins and ends. Both are exact.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from extract.audio import Wave

FRAME_SAMPLES = 320
WITHIN_UTTERANCES = "within_utterances"


@dataclass(frozen=True)
class Preprocessing:
    """How waveforms are prepared for the encoder.

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
        model: in evaluation mode, on its device and in its precision; its attention is replaced, see `ATTENTION`.
        preprocessing: of the waveforms.
    """

    FIRST_FRAME: ClassVar[float]
    """The time of the first frame's centre, in seconds."""
    LEAST_FRAMES: ClassVar[int] = 1
    """The fewest frames that are encoded, however short the waveform."""
    MOST_FRAMES: ClassVar[int | None] = None
    """The most frames that can be encoded at once; None for any number."""
    ATTENTION: ClassVar[str | None] = WITHIN_UTTERANCES
    """The attention of transformers that its layers use; None where the family has replaced it altogether."""
    NORMED_BY: ClassVar[tuple[str, ...]] = ("transformers4",)
    """Versions of transformers whose last hidden state is the one after the final norm."""

    def __init__(self, model: Any, preprocessing: Preprocessing) -> None:
        self.model, self.preprocessing = model, preprocessing
        if self.ATTENTION is not None:
            model.set_attn_implementation(self.ATTENTION)

    @staticmethod
    @abstractmethod
    def count_frames(samples: int) -> int:
        """Return the number of frames of a waveform."""

    @abstractmethod
    def front(self, wave: Wave) -> torch.Tensor:
        """Return what enters the first layer for one waveform, (frames, dim)."""

    def fronts(self, wave: Wave, windows: Sequence[tuple[int, int]]) -> list[torch.Tensor]:
        """Return what enters the first layer for windows of a waveform, each given by its frames."""
        whole = self.front(wave)
        return [whole[start:stop] for start, stop in windows]

    def transform(self, fronts: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Return the input of the first layer and the output of each, before any norm that follows the last.

        Args:
            fronts: what enters the first layer for each utterance, (frames, dim).

        Returns:
            the states (all frames, dim) of each, with the utterances one after another.
        """
        lengths = [len(front) for front in fronts]
        frames = torch.cat(list(fronts))[None]
        states = [frames[0]]
        for block in self.blocks:
            frames = self.apply(block, frames, lengths)
            states.append(frames[0])
        return states

    def apply(self, block: Any, frames: torch.Tensor, lengths: list[int]) -> torch.Tensor:
        """Return the output (1, all frames, dim) of one layer; the lengths are passed where it expects a mask."""
        output = block(frames, lengths)
        return output[0] if isinstance(output, tuple) else output

    @property
    @abstractmethod
    def blocks(self) -> Any:
        """The transformer's layers, a ``ModuleList``."""

    @property
    @abstractmethod
    def final_norm(self) -> torch.nn.Module | None:
        """The norm that the family applies after the last layer, if it has one there."""


def attend_within_utterances(
    _: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    lengths: list[int],
    scaling: float | None = None,
    **__: Any,
) -> tuple[torch.Tensor, None]:
    """Return the attention (1, frames, heads, size) within each utterance; replaces that of transformers.

    Args:
        query: (1, heads, frames, size), the utterances concatenated along the frames.
        key: as ``query``.
        value: as ``query``.
        lengths: of the utterances, in frames.
        scaling: of the scores; one over the square root of the size when absent.
    """
    parts = zip(*(states.split(lengths, dim=2) for states in (query, key, value)), strict=True)
    found = [scaled_dot_product_attention(q, k, v, scale=scaling) for q, k, v in parts]
    return torch.cat(found, dim=2).transpose(1, 2), None


AttentionInterface.register(WITHIN_UTTERANCES, attend_within_utterances)
