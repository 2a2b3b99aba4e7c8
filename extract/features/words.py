"""When the tokens of the transcript are said: the times of their words, from a forced alignment."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher

import numpy as np
from pydantic import Field
from typing_extensions import override

from extract.alignments import Word, parse_words
from extract.audio import SAMPLING_RATE, Wave
from extract.encoders.checkpoint import short_names
from extract.features import NO_ROW, Computed, Row, versions_of
from extract.transcripts import Tokens, TranscriptExtractor, TranscriptFeature
from featurestore.format.codec import Floats
from featurestore.format.plan import FeatureSpec

CHANNELS = ("start", "end", "aligned")


class Words(TranscriptFeature):
    """For each token of the feature ``text``: the beginning and end of its word, in seconds, and 1.

    All three are 0 for special tokens and for words that the alignment lacks. The words of the transcript are split at
    white space, and matched with those of the alignment in order, whatever their case and punctuation.
    """

    checkpoint: str = Field(default="roberta-base", examples=short_names(text=True))
    """The text encoder whose tokens these are; that of the feature ``text`` if the same command extracts it."""

    @property
    @override
    def columns(self) -> tuple[str, ...]:
        return ("transcript", "words")

    @override
    def build(self) -> WordsExtractor:
        return WordsExtractor(self)


class WordsExtractor(TranscriptExtractor):
    """See `Words`."""

    feature: Words

    @override
    def spec(self) -> FeatureSpec:
        settings, versions = {"settings": self.settings()}, {"versions": versions_of("transformers", "tokenizers")}
        return self.as_spec(len(CHANNELS), 0, {**settings, **self.source(), **versions}, channels=CHANNELS)

    def place(self, samples: int, row: Row = NO_ROW) -> tuple[int, float]:
        """Return the number of tokens, and the time of the middle of the utterance."""
        parse_words(row.get("words", ""), samples / SAMPLING_RATE)
        return len(self.tokens(row).ids), samples / 2 / SAMPLING_RATE

    def compute(self, waves: Sequence[Wave], rows: Sequence[Row] = ()) -> Iterator[Computed]:
        """Yield the times of each utterance."""
        for position, (wave, row) in enumerate(zip(waves, rows, strict=True)):
            words = parse_words(row["words"], len(wave) / SAMPLING_RATE)
            yield Computed(position, times_of(self.tokens(row), words)[None])


def times_of(tokens: Tokens, words: Sequence[Word]) -> Floats:
    """Return the `CHANNELS` of each token, (tokens, 3).

    >>> tokens = Tokens("Oh no!", [0, 7, 8, 9], [(0, 0), (0, 2), (3, 5), (5, 6)], [True, False, False, False])
    >>> times_of(tokens, [("NO", 0.5, 0.75)]).tolist()
    [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.5, 0.75, 1.0], [0.5, 0.75, 1.0]]
    """
    spoken = [*re.finditer(r"\S+", tokens.text)]
    times = np.zeros((len(spoken) + 1, len(CHANNELS)), np.float32)  # the last one stands for no word
    mine, theirs = (_comparable(said) for said in ([match[0] for match in spoken], [word[0] for word in words]))
    matcher = SequenceMatcher(None, [text for _, text in mine], [text for _, text in theirs], autojunk=False)
    for first, other, size in matcher.get_matching_blocks():
        for (i, _), (j, _) in zip(mine[first : first + size], theirs[other : other + size], strict=True):
            times[i] = (*words[j][1:], 1)
    word_of = np.full(len(tokens.text), len(spoken))  # by character
    for i, match in enumerate(spoken):
        word_of[slice(*match.span())] = i
    chosen = [
        len(spoken) if special else int(word_of[begin:end].min(initial=len(spoken)))
        for (begin, end), special in zip(tokens.spans, tokens.special, strict=True)
    ]
    return times[chosen]


def _comparable(words: Sequence[str]) -> list[tuple[int, str]]:
    """Return words by their positions: letters and digits alone, in lower case; those without any are left out."""
    found = (re.sub(r"[\W_]+", "", word).casefold() for word in words)
    return [(i, word) for i, word in enumerate(found) if word]
