"""Streams as tokens that attend to themselves and to each other, and of which some may be missing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, Self

import torch
from pydantic import Field, PrivateAttr, model_validator
from torch import nn
from typing_extensions import override

from featurestore.shared.errors import SerError
from train.curves.chunks import chunk_frames
from train.curves.multiscale import PARTS, Attending, TokenStream, around, cropped, pyramid, spread
from train.fusions import Fusion, FusionModule
from train.numerics.layers import WIDEST
from train.numerics.sequences import Sequences

WORD = ("start", "end", "aligned")
"""The channels of the feature ``words``: seconds, and whether the token has a word that is aligned."""


class Multiscale(Fusion):
    """One vector of an utterance: of each stream a token for the whole, after self- and co-attention.

    Streams of many frames a second are cut into chunks, and each chunk is pooled in a pyramid; others are tokens.
    """

    least: ClassVar[int] = 1
    pools: ClassVar[bool] = True
    knows_absence: ClassVar[bool] = True

    tokens: tuple[str, ...] | None = None
    """Streams whose frames are tokens; when absent those without a clock, as a text. The others are cut into as many
    chunks as there are tokens of the first of these that has several, or, where there is none or it is missing, as
    cover the utterance, two at least."""
    seconds: float = Field(default=1.0, gt=0, le=3600)
    """Of a chunk."""
    frames: int | None = Field(default=None, gt=0, le=1_000_000)
    """Of a chunk, of the first stream that is cut; when absent what ``seconds`` are on its clock. Chunks of the others
    take as long."""
    words: str | None = None
    """A stream of the feature ``words``, which says when the tokens of the first of ``tokens`` are said: the chunk of
    each lies around the middle of its word, unless the tokens are missing. Those of tokens without a word are spread
    evenly, as are all when absent, which is what was published."""
    shares: tuple[float, ...] = ()
    """In training a piece of each chunk is heard, of one of these shares of its length, at a random place in it; the
    whole chunk when absent; published: [0.2,0.4,0.6,0.8,1.0]."""
    lost: float = Field(default=0.0, ge=0, lt=1)
    """Share of the loss, and of the score that selects, of each stream alone, the others being lost, and, where there
    are more than two, of the others without it; the rest is of all together."""
    lost_parts: float = Field(default=0.0, ge=0, lt=1)
    """Share of the tokens, or chunks, that training leaves out."""
    join: Literal["weighted", "concat"] = "weighted"
    """How the tokens for the whole of all streams become one vector: their mean with learned weights, of those that are
    there; or one after another, as was published."""
    channels: int = Field(default=256, gt=0, le=WIDEST)
    """Width of a token, a multiple of the heads."""
    heads: int = Field(default=4, gt=0, le=256)
    """Number of attention heads; divides the channels."""
    hidden: int = Field(default=512, gt=0, le=WIDEST)
    """Width between the two layers that each token passes."""
    alone: int = Field(default=3, ge=0, le=24)
    """Layers in which the tokens of a stream attend to each other."""
    together: int = Field(default=2, ge=0, le=24)
    """Layers in which they then attend to those of the other streams."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of what a layer adds that training leaves out; published: 0.3."""

    @model_validator(mode="after")
    def _fit(self) -> Self:
        if self.channels % self.heads:
            raise ValueError(f"fusion.heads ({self.heads}) must divide fusion.channels ({self.channels})")
        if not all(0 < share <= 1 for share in self.shares):
            raise ValueError(f"fusion.shares: expected shares above 0, up to 1, found {list(self.shares)}")
        return self

    _hops: dict[str, float] = PrivateAttr(default={})

    @property
    def hops(self) -> Mapping[str, float]:
        """Seconds from frame to frame of each stream, once it is on their clocks."""
        return self._hops

    @property
    @override
    def own_clocks(self) -> bool:
        return True

    @property
    @override
    def raw(self) -> dict[str, tuple[str, ...]]:
        return {} if self.words is None else {self.words: WORD}

    @override
    def on_clocks(self, hops: Mapping[str, float]) -> Multiscale:
        """Return it with the streams that are tokens, and the frames of a chunk, which takes so many ``seconds``.

        Raises:
            SerError: if tokens or words are of no stream, or one that has no clock is to be cut.
        """
        if self.words is not None and self.words not in hops:
            raise SerError(f"fusion.words={self.words} is no stream, the streams are {', '.join(hops)}")
        hops = {name: hop for name, hop in hops.items() if name != self.words}
        timeless = tuple(name for name, hop in hops.items() if not hop)
        tokens = timeless if self.tokens is None else self.tokens
        said, strange = f"fusion.tokens=[{','.join(tokens)}]", [name for name in tokens if name not in hops]
        if strange:
            raise SerError(f"{said}: {', '.join(strange)} is no stream, the streams are {', '.join(hops)}")
        uncut = [name for name in timeless if name not in tokens]
        if uncut:
            raise SerError(
                f"{said}: {', '.join(uncut)} has no clock, so it cannot be cut into chunks of seconds: add it, or "
                "leave fusion.tokens out"
            )
        cut = next((hop for name, hop in hops.items() if name not in tokens), None)
        if self.words is not None and (cut is None or not tokens):
            raise SerError(
                f"fusion.words={self.words} says when tokens are said: found the streams {', '.join(hops)}, expected "
                "one of tokens, as a text, and one that is cut into chunks"
            )
        if cut is None:
            return self.model_copy(update={"tokens": tokens})
        frames = self.frames or chunk_frames(self.seconds, cut)
        found = self.model_copy(update={"tokens": tokens, "frames": frames, "seconds": frames * cut})
        found._hops = dict(hops)
        return found

    @override
    def build(self, widths: Mapping[str, int]) -> FusionModule:
        return MultiscaleTokens(widths, self)


class MultiscaleTokens(FusionModule):
    """See `Multiscale`; the settings are on clocks."""

    def __init__(self, widths: Mapping[str, int], settings: Multiscale) -> None:
        super().__init__()
        assert settings.tokens is not None  # it is on clocks
        widths = {name: width for name, width in widths.items() if name != settings.words}
        self.settings, self.tokens, several = settings, settings.tokens, len(widths) > 1
        self.frames = settings.frames or 1  # where all are tokens nothing is cut
        self.dim = settings.channels * (len(widths) if settings.join == "concat" else 1)
        if settings.lost and several:
            alone, each = [frozenset(widths) - {name} for name in widths], [frozenset([name]) for name in widths]
            lost = dict.fromkeys([*alone, *each])  # of two streams the same
            self.absences = (*((one, settings.lost / len(lost)) for one in lost), (frozenset(), 1 - settings.lost))
        sizes = (settings.channels, settings.heads, settings.hidden, settings.dropout)
        factors = {name: 1 if name in self.tokens else PARTS for name in widths}
        self.streams = nn.ModuleList(
            TokenStream(factors[name] * width, settings.channels, settings.dropout / 3)
            for name, width in widths.items()
        )
        self.alone = _layers(len(widths), settings.alone, sizes)
        self.together = _layers(len(widths), settings.together if several else 0, sizes)
        self.weigh = nn.Linear(settings.channels, 1) if several and settings.join == "weighted" else None

    @override
    def forward(self, streams: dict[str, Sequences]) -> Sequences:
        middles = self._middles(streams)
        streams = {name: one for name, one in streams.items() if name != self.settings.words}
        there = self._there(streams)
        found = [
            module(self._kept(name, one), kept)
            for (name, one), module, kept in zip(
                self._chunked(streams, middles).items(), self.streams, there, strict=True
            )
        ]
        for number, (one, layers) in enumerate(zip(found, _stacks(self.alone), strict=True)):
            values = one.values
            for layer in layers:
                values = layer(values, Sequences(values, one.mask))
            found[number] = Sequences(values, one.mask)
        for step in zip(*_stacks(self.together), strict=True):
            heard = [_all(found[:number] + found[number + 1 :]) for number in range(len(found))]
            found = [
                Sequences(layer(one.values, others), one.mask)
                for layer, one, others in zip(step, found, heard, strict=True)
            ]
        whole = self._joined(torch.stack([one.values[:, 0] for one in found], dim=1), there)[:, None]
        return Sequences(whole, whole.new_ones(len(whole), 1, dtype=torch.bool))

    def _there(self, streams: dict[str, Sequences]) -> torch.Tensor:
        """Return which streams of each utterance are there, (streams, batch)."""
        return torch.stack([one.mask.any(dim=1) & (name not in self.absent) for name, one in streams.items()])

    def _joined(self, tokens: torch.Tensor, there: torch.Tensor) -> torch.Tensor:
        """Return one vector of the tokens for the whole of all streams, (batch, streams, channels)."""
        if self.weigh is None:
            return tokens.flatten(1)
        there = there | ~there.any(dim=0)  # where no stream is there, all count: their tokens say so
        weights = self.weigh(tokens).masked_fill(~there.T[..., None], -torch.inf).softmax(dim=1)
        return (weights * tokens).sum(dim=1)

    def _middles(self, streams: dict[str, Sequences]) -> torch.Tensor | None:
        """Return the second of the middle of the word of each token, (batch, tokens), NaN where there is none.

        None where no words are heard, or their tokens are missing.

        Raises:
            SerError: if there are other words than tokens.
        """
        words, text = self.settings.words, next((name for name in streams if name in self.tokens), None)
        if words is None or text is None or {words, text} & self.absent:
            return None
        (values, mask), tokens = streams[words], streams[text]
        for said, heard in zip(mask.sum(dim=1).tolist(), tokens.mask.sum(dim=1).tolist(), strict=True):
            if said != heard and said and heard:
                raise SerError(
                    f"fusion.words={words}: found the times of {said} tokens of an utterance, and {heard} tokens in "
                    f"{text}, the first stream of tokens; expected as many: extract words and text by one checkpoint"
                )
        begin, end, aligned = values.double().unbind(dim=-1)
        known = mask & (aligned >= 0.5) & tokens.mask.any(dim=1)[:, None]
        return ((begin + end) / 2).masked_fill(~known, torch.nan)

    def _chunked(self, streams: dict[str, Sequences], middles: torch.Tensor | None = None) -> dict[str, Sequences]:
        """Return the streams, of which those that are no tokens are chunks: of each as many, at the same times.

        Args:
            streams: those that are fused.
            middles: of chunks that lie around something, in seconds, (batch, chunks), NaN for others.
        """
        cut = {name: one for name, one in streams.items() if name not in self.tokens}
        if not cut:
            return streams
        frames = self._duration(cut)
        counts = (-(-frames // self.frames)).clamp(min=2)
        for name in reversed([name for name in streams if name in self.tokens and name not in self.absent]):
            several = streams[name].mask.sum(dim=1)
            counts = torch.where(several > 1, several, counts)
        if middles is not None:  # as shares of the utterance
            middles = middles * self.frames / self.settings.seconds / frames[:, None]
        return {**streams, **{name: self._chunks(one, counts, frames, middles) for name, one in cut.items()}}

    def _duration(self, cut: Mapping[str, Sequences]) -> torch.Tensor:
        """Return how long each utterance is in frames of the first stream that is cut, by the first that it has."""
        (first, heard), *others = cut.items()
        frames, hops = heard.mask.sum(dim=1), self.settings.hops
        for name, one in others:
            known = (one.mask.sum(dim=1) * hops[name] / hops[first]).round().long()
            frames = torch.where(frames > 0, frames, known)
        return frames.clamp(min=1)

    def _chunks(
        self, stream: Sequences, counts: torch.Tensor, frames: torch.Tensor, middles: torch.Tensor | None
    ) -> Sequences:
        """Return the chunks of a stream, so many of each utterance, of which the first stream has so many frames."""
        lengths = stream.mask.sum(dim=1).clamp(min=1)  # a chunk needs a frame; of a stream that lacks it is masked
        size = ((2 * self.frames * lengths + frames) // (2 * frames)).clamp(min=1)
        begins, there = spread(lengths, counts, size)
        if middles is not None:
            begins = around(middles * lengths[:, None], begins, lengths, size)
        ends = torch.minimum(begins + size[:, None], lengths[:, None])
        if self.training and self.settings.shares:
            begins, ends = cropped(begins, ends, torch.tensor(self.settings.shares, device=begins.device))
        return Sequences(pyramid(stream.values, begins, ends), there)

    def _kept(self, name: str, tokens: Sequences) -> Sequences:
        """Return the tokens of a stream, of which a share is left out."""
        share = self.settings.lost_parts if self.training else self.gone.get(name, 0.0)
        if not share:
            return tokens
        values, mask = tokens
        return Sequences(values, mask & (torch.rand(mask.shape, device=mask.device) >= share))


def _layers(streams: int, count: int, sizes: tuple[int, int, int, float]) -> nn.ModuleList:
    return nn.ModuleList(nn.ModuleList(Attending(*sizes) for _ in range(count)) for _ in range(streams))


def _stacks(layers: nn.ModuleList) -> list[list[Attending]]:
    """Return the layers of each stream."""
    return [[layer for layer in stack.modules() if isinstance(layer, Attending)] for stack in layers]


def _all(streams: list[Sequences]) -> Sequences:
    """Return the tokens of several streams, one stream after another."""
    return Sequences(torch.cat([one.values for one in streams], dim=1), torch.cat([one.mask for one in streams], dim=1))
