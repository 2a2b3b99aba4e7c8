"""The hidden states of every layer of a frozen text encoder, of the transcript, exact in any batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field
from typing_extensions import override

from extract.audio import SAMPLING_RATE, Wave
from extract.encoders.checkpoint import TEXT_MODELS, load_model
from extract.encoders.device import compute_exactly
from extract.features import NO_ROW, Computed, Row
from extract.pretrained import ModelExtractor, ModelFeature
from extract.transcripts import TranscriptExtractor, TranscriptFeature
from featurestore.access.batch_order import batch_order
from featurestore.format.codec import Dtype, Floats
from featurestore.format.plan import FeatureSpec

if TYPE_CHECKING:
    import torch

SENTENCE_HOP = 1.0
"""In seconds; arbitrary, since there is a single frame."""


class Text(TranscriptFeature, ModelFeature):
    """Hidden states: layer 0 is the input of the first transformer layer, layer i the output of the i-th.

    A frame is a token, in the order of the transcript, with the special tokens that the tokenizer adds (``<s>`` and
    ``</s>``). Tokens have no times; the feature ``words`` has those of their words.
    """

    level: Literal["tokens", "sentence"] = "tokens"
    """``sentence``: one frame in the middle of the utterance, the mean of its tokens without the special ones."""
    batch_tokens: int = Field(default=2048, gt=0)
    """Tokens in a batch, padding included; does not change the features."""
    dtype: Dtype = "float16"
    """How its frames are stored."""

    @override
    def build(self) -> TextExtractor:
        return TextExtractor(self)


class TextExtractor(TranscriptExtractor, ModelExtractor):
    """See `Text`."""

    feature: Text

    @override
    def spec(self) -> FeatureSpec:
        hop = SENTENCE_HOP if self.feature.level == "sentence" else 0
        origin = self.origin(self._model, "torch", "transformers", "tokenizers")
        return self.as_spec(self._config.hidden_size, hop, origin, layers=self._config.num_hidden_layers + 1)

    def place(self, samples: int, row: Row = NO_ROW) -> tuple[int, float]:
        """Return the number of tokens, or 1, and the time of the middle of the utterance."""
        count = len(self.tokens(row).ids)
        return 1 if self.feature.level == "sentence" else count, samples / 2 / SAMPLING_RATE

    def compute(self, waves: Sequence[Wave], rows: Sequence[Row] = ()) -> Iterator[Computed]:
        """Yield the hidden states of each transcript, in batches of similar length; the waveforms are not used."""
        tokens = [self.tokens(row) for _, row in zip(waves, rows, strict=True)]
        for positions in batch_order([len(one.ids) for one in tokens], frames=self.feature.batch_tokens):
            batch = positions.tolist()
            for i, states in zip(batch, self._encode([tokens[i].ids for i in batch]), strict=True):
                if self.feature.level == "sentence":
                    states = states[:, ~np.array(tokens[i].special)].mean(axis=1, keepdims=True)
                yield Computed(i, states)

    def _encode(self, ids: Sequence[Sequence[int]]) -> list[Floats]:
        """Return the hidden states (layers, tokens, dim) of a batch."""
        import torch

        numbers = [torch.tensor(one, device=self._device) for one in ids]
        padding = self._config.pad_token_id or 0
        padded = torch.nn.utils.rnn.pad_sequence(numbers, batch_first=True, padding_value=padding)
        counts = torch.tensor([len(one) for one in ids], device=self._device)
        mask = torch.arange(padded.shape[1], device=self._device) < counts[:, None]
        with torch.inference_mode():
            found = self._model(input_ids=padded, attention_mask=mask.long(), output_hidden_states=True)
        states = torch.stack(found.hidden_states, dim=1).cpu().numpy()
        return [one[:, : len(own)] for one, own in zip(states, ids, strict=True)]

    @cached_property
    def _model(self) -> torch.nn.Module:
        compute_exactly(self._device)
        return load_model(self._checkpoint, TEXT_MODELS).to(self._device)
