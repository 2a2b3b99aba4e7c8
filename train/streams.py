"""Streams: the features of a store that a model hears, and how it hears each of them."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from pydantic import Field

from featurestore.shared.config import Config
from featurestore.shared.errors import SerError
from train.embeddings import Embedding
from train.embeddings.linear import Linear
from train.embeddings.none import NoEmbedding
from train.fronts import Front
from train.fronts.layer_sum import WeightedLayers
from train.fronts.log_f0 import LogF0
from train.fronts.standardize import Standardize
from train.fusions import Fusion
from train.numerics.layers import WIDEST
from train.reading.corpora import AnyFeature, AnyStore
from train.reading.sources import Source
from train.temporal import Temporal
from train.temporal.none import NoTemporal

DROPOUT = 0.5
"""Share of the channels of hidden states that a training step leaves out."""


class Stream(Config):
    """One feature as a model hears it."""

    feature: str | None = None
    """Its name in the store; when absent that of the stream, or of the first stream the only one with layers."""
    layers: int | tuple[int, ...] | None = None
    """Which are read, by number from 0, or from the end below 0; all when absent."""
    front: Front | None = None
    """How it is standardised, and its layers summed; when absent layer_sum for layers, log_f0 for pitch, standardize
    for others."""
    dropout: float | None = Field(default=None, ge=0, lt=1)
    """Share of channels that a training step leaves out, the same in all frames of an utterance; when absent 0.5 of
    hidden states, and none of others."""
    embedding: Embedding = Linear()
    """From its channels to its width."""
    temporal: Temporal = NoTemporal()
    """Model over time of what is embedded, on the clock of the feature; the fusion takes what it gives."""
    width: int | None = Field(default=None, gt=0, le=WIDEST)
    """Channels to which it is embedded; when absent the width of the model, or as the fusion has it."""


def resolve(streams: Mapping[str, Stream], store: AnyStore, fusion: Fusion, width: int) -> dict[str, Stream]:
    """Return the streams of a model with all that was left open.

    Without any the first is ``speech``, the hidden states of the store; a fusion of two or more hears ``pitch`` beside
    a stream that is alone, or ``speech`` before it if that one is ``pitch``.

    Raises:
        SerError: if the store lacks a feature, or the fusion takes another number of streams, or other ones.
    """
    named = dict(streams) or {"speech": Stream()}
    if len(named) == 1 and fusion.least > 1:
        named = {"speech": Stream(), **named} if "pitch" in named else {**named, "pitch": Stream(feature="pitch")}
    fused = [name for name in named if name not in fusion.raw]
    if len(fused) < fusion.least or (fusion.most is not None and len(fused) > fusion.most):
        wanted = f"{fusion.least} or more" if fusion.most is None else str(fusion.most)
        raise SerError(f"fusion={fusion.name} takes {wanted} streams, found {len(fused)}: {', '.join(fused)}")
    found = {}
    for number, (name, stream) in enumerate(named.items()):
        feature = _feature(name, stream, store, first=number == 0)
        if name in fusion.raw:
            found[name] = _raw(name, stream, store.feature(feature), fusion.raw[name])
            continue
        complete = _complete(stream, feature, store)
        if complete.width is None:
            complete = complete.model_copy(update={"width": fusion.width_of_others(width) if number else width})
        found[name] = complete
    return found


def source_of(stream: Stream, store: AnyStore, owners: Mapping[str, pd.Series]) -> Source:
    """Return the feature of a stream, to be read.

    Raises:
        SerError: if the store lacks it, or one of the layers, or the front cannot hear it.
    """
    part = store.feature(stream.feature or only_encoder(store))
    source = Source(part, stream.layers, owners)
    try:
        source.count  # noqa: B018, it raises what is wrong
    except IndexError:
        raise SerError(
            f"{part.name} has {part.spec.layers} layers, numbered from 0: found layers={stream.layers}"
        ) from None
    if stream.front:
        stream.front.check(source)
    return source


def only_encoder(store: AnyStore) -> str:
    """Return the only feature that has layers or, of several, the only one with a clock, which a text has not.

    Raises:
        SerError: if there is another number of them.
    """
    layered = [name for name, part in store.parts.items() if part.spec.layers > 1]
    chosen = [name for name in layered if store.feature(name).spec.hop] or layered
    if len(chosen) != 1:
        found = ", ".join(layered) or "none"
        raise SerError(
            f"{store.path}: found {found} with hidden states, expected one: choose with streams.speech.feature=NAME"
        )
    return chosen[0]


def _feature(name: str, stream: Stream, store: AnyStore, first: bool) -> str:
    if stream.feature is not None:
        return stream.feature
    return only_encoder(store) if first and name not in store.parts else name


def _complete(stream: Stream, feature: str, store: AnyStore) -> Stream:
    spec = store.feature(feature).spec
    layered = Source(store.feature(feature), stream.layers, {}).spec.layers > 1
    front = stream.front or (
        WeightedLayers() if layered else LogF0() if spec.channels[:2] == ("f0", "voiced") else Standardize()
    )
    dropout = stream.dropout if stream.dropout is not None else DROPOUT if layered else 0.0
    return stream.model_copy(update={"feature": feature, "front": front, "dropout": dropout})


def _raw(name: str, stream: Stream, part: AnyFeature, channels: tuple[str, ...]) -> Stream:
    """Return a stream that is heard as it is stored."""
    if part.spec.channels != channels:
        raise SerError(
            f"streams.{name}: {part.name} has the channels {', '.join(part.spec.channels) or 'of no name'}, the fusion "
            f"expects {', '.join(channels)}: give streams.{name}.feature=NAME"
        )
    front, width = Standardize(normalize="none"), part.spec.dim
    raw = Stream(feature=part.name, front=front, dropout=0.0, embedding=NoEmbedding(), width=width)
    other = [key for key in stream.model_fields_set if getattr(stream, key) not in (None, getattr(raw, key))]
    if other:
        raise SerError(f"streams.{name} is heard as it is stored: leave {', '.join(sorted(other))} of it out")
    return raw
