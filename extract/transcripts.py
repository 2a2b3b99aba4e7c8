"""The base of features of transcripts: the tokens that the tokenizer of a frozen text encoder gives."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

from pydantic import Field
from typing_extensions import override

from extract.encoders.checkpoint import TEXT_MODELS, load_with, short_names
from extract.features import Row
from extract.pretrained import PretrainedExtractor, PretrainedFeature
from featurestore.shared.errors import SerError

COUNTED_FROM_PADDING = ("roberta", "xlm-roberta")
"""Model types that number positions from the one after the id of the padding token."""


class Tokens(NamedTuple):
    """A transcript as the tokenizer cuts it.

    Attributes:
        text: the transcript, without white space at its ends.
        ids: of the tokens, with the special ones that the tokenizer adds (at the beginning and the end).
        spans: the characters of each token in the text: the first, and the one after the last.
        special: whether each token is a special one.
    """

    text: str
    ids: list[int]
    spans: list[tuple[int, int]]
    special: list[bool]


class TranscriptFeature(PretrainedFeature):
    """A feature of the tokens of the column ``transcript``."""

    models: ClassVar[Mapping[str, str]] = TEXT_MODELS
    checkpoint: str = Field(default="roberta-base", examples=short_names(text=True))
    """A short name of checkpoints.yaml, or a local folder in Hugging Face's layout, with the tokenizer."""

    @property
    @override
    def columns(self) -> tuple[str, ...]:
        return ("transcript",)


class TranscriptExtractor(PretrainedExtractor):
    """Computes a feature of the tokens of a transcript."""

    feature: TranscriptFeature

    def settings(self) -> dict[str, Any]:
        """Return the settings, and the SHA-256 of the tokenizer's vocabulary."""
        vocabulary = json.dumps(sorted(self._tokenizer.get_vocab().items())).encode()
        return {
            **super().settings(),
            "tokenizer": hashlib.sha256(vocabulary).hexdigest(),
        }

    def tokens(self, row: Row) -> Tokens:
        """Return the tokens of an utterance's transcript; case and punctuation are kept.

        Raises:
            ValueError: if it has no transcript, one without a token, or one with more tokens than the encoder takes.
        """
        text = str(row.get("transcript", "")).strip()
        if not text:
            raise ValueError("it has no transcript")
        found = self._tokenizer(
            text,
            padding=False,
            truncation=False,
            return_offsets_mapping=True,
            return_special_tokens_mask=True,
            verbose=False,
        )
        tokens = Tokens(text, found["input_ids"], found["offset_mapping"], [*map(bool, found["special_tokens_mask"])])
        if all(tokens.special):
            raise ValueError(f"{self.feature.short_name} finds no token in its transcript {text[:40]!r}")
        if len(tokens.ids) > self._most_tokens:
            most = f"{self.feature.short_name} takes at most {self._most_tokens}"
            raise ValueError(f"its transcript has {len(tokens.ids)} tokens, {most}")
        return tokens

    @cached_property
    def _most_tokens(self) -> int:
        first = self._config.pad_token_id + 1 if self._config.model_type in COUNTED_FROM_PADDING else 0
        return min(self._tokenizer.model_max_length, self._config.max_position_embeddings - first)

    @cached_property
    def _tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        most = self._config.vocab_size  # first: an error if the checkpoint is no text encoder
        tokenizer = load_with(AutoTokenizer.from_pretrained, self._checkpoint)
        # without a file, transformers makes a tokenizer that knows no word
        words = len(tokenizer) - len(tokenizer.all_special_ids)
        if words <= 0 or len(tokenizer) > most or not tokenizer.is_fast:
            kind = "fast" if tokenizer.is_fast else "slow"
            raise SerError(
                f"{self._checkpoint.id}: found a {kind} tokenizer of {words} tokens beside the special ones, expected "
                f"a fast one of at most {most}, as the model has: give a folder with its tokenizer.json"
            )
        return tokenizer
