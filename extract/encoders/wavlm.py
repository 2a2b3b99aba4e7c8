"""WavLM, whose attention adds a relative position bias, which every layer gates."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

import torch
from torch.nn.functional import scaled_dot_product_attention
from typing_extensions import override

from extract.encoders.backbone import Preprocessing
from extract.encoders.waveform import WaveformBackbone


class WavLMBackbone(WaveformBackbone):
    """WavLM: the gated relative position bias of S. Chen et al. (2022), WavLM, section III-A, as a mask of scores."""

    ATTENTION: ClassVar[str | None] = None

    def __init__(self, model: Any, preprocessing: Preprocessing) -> None:
        super().__init__(model, preprocessing)
        self._longest = torch.zeros(0)
        for block in self.blocks:
            block.attention.forward = partial(attend, block.attention)

    @override
    def apply(self, block: Any, frames: torch.Tensor, lengths: list[int]) -> torch.Tensor:
        return block(frames, lengths, self._bias(max(lengths)))[0]

    def _bias(self, frames: int) -> torch.Tensor:
        """Return the bias (heads, frames, frames); only the first layer computes it, and it is kept for the others."""
        if self._longest.shape[-1] != frames:
            self._longest = self.blocks[0].attention.compute_bias(frames, frames)
        return self._longest


def attend(
    attention: Any, states: torch.Tensor, attention_mask: list[int], position_bias: torch.Tensor, **_: Any
) -> tuple[torch.Tensor, None, torch.Tensor]:
    """Return the attention (1, frames, dim) of a layer within each utterance; replaces that of transformers.

    Args:
        attention: the module of the layer.
        states: (1, frames, dim), the utterances concatenated along the frames.
        attention_mask: the lengths of the utterances, in the place of a mask.
        position_bias: (heads, frames, frames) for the longest utterance.
    """

    def split(states: torch.Tensor) -> torch.Tensor:
        """Return (heads, frames, size) of (1, frames, dim)."""
        return states[0].unflatten(-1, (attention.num_heads, -1)).transpose(0, 1)

    gates = attention.gru_rel_pos_linear(split(states)).unflatten(-1, (2, 4)).sum(-1).sigmoid()
    gate = gates[..., :1] * (gates[..., 1:] * attention.gru_rel_pos_const[0] - 1.0) + 2.0
    projections = (attention.q_proj, attention.k_proj, attention.v_proj)
    heads = [split(project(states)) for project in projections]
    found = []
    for q, k, v, g in zip(*(part.split(attention_mask, dim=1) for part in [*heads, gate]), strict=True):
        bias = g * position_bias[:, : q.shape[1], : q.shape[1]]
        found.append(scaled_dot_product_attention(q[None], k[None], v[None], attn_mask=bias[None])[0])
    attended = torch.cat(found, dim=1).transpose(0, 1).flatten(1)
    return attention.out_proj(attended)[None], None, position_bias
