"""The model: streams, each summed, standardised and embedded -> fusion -> pooling -> a head for each task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import nn

from train.batch import Batch, StreamBatch
from train.config import TrainConfig
from train.curves.heads import ChunkHead
from train.examples import Examples, Hearing, pooled_stream
from train.fronts import FrontModule
from train.poolings.chunks import ChunkPooling
from train.sequences import Sequences, pad


class StreamModel(nn.Module):
    """From what is stored of a feature to the frames that the fusion takes."""

    def __init__(self, hearing: Hearing) -> None:
        super().__init__()
        stream = hearing.stream
        assert stream.width is not None  # they are resolved
        assert stream.dropout is not None
        self.front = hearing.front.build(hearing.source)
        self.dropout = stream.dropout
        self.embed = stream.embedding.build(self.front.dim, stream.width)
        self.alone = stream.embedding.each_alone

    def forward(self, batch: StreamBatch) -> Sequences:  # noqa: D102
        packed = batch.align(self.front(batch.frames, self._kept(batch)))
        lengths = torch.tensor(batch.lengths)
        if self.alone:
            return pad(self.embed(packed, None), lengths)
        values, mask = pad(packed, lengths)
        return Sequences(self.embed(values, mask), mask)

    def _kept(self, batch: StreamBatch) -> torch.Tensor | None:
        """Return the factor of each channel in a training step, (utterances, dim): zero for those that are left out."""
        if not (self.training and self.dropout):
            return None
        blank = next(self.embed.parameters()).new_empty(len(batch.frames), self.front.dim).detach()
        return blank.bernoulli_(1 - self.dropout) / (1 - self.dropout)


class Model(nn.Module):
    """From a batch to the outputs of each task, (batch, outputs) by name.

    Args:
        config: the settings of its parts.
        streams: what it hears.
        outputs: of each task.
    """

    def __init__(self, config: TrainConfig, streams: Mapping[str, Hearing], outputs: Mapping[str, int]) -> None:
        super().__init__()
        self.heard, self.tasks = tuple(streams), tuple(outputs)
        self.streams = nn.ModuleList(StreamModel(hearing) for hearing in streams.values())
        self.fusion = config.fusion.build({name: int(hearing.stream.width or 0) for name, hearing in streams.items()})
        self.pooling = config.pooling.on_clock(pooled_stream(streams, config.fusion.own_clocks).hop).build(
            self.fusion.dim
        )
        hearing = {name for name, task in config.tasks.items() if task.by_chunk}
        self.by_chunk = isinstance(self.pooling, ChunkPooling) and bool(hearing)
        heads = {name: config.head.build(self.pooling.dim, count) for name, count in outputs.items()}
        self.heads = nn.ModuleList(
            ChunkHead(head, name in hearing) if self.by_chunk else head for name, head in heads.items()
        )
        learned = len(outputs) if config.weights == "learned" else 0
        self.log_variances = nn.Parameter(torch.zeros(learned), requires_grad=learned > 0)

    def fit(self, examples: Examples, names: list[str]) -> None:
        """Take the statistics of the training part."""
        for name, front in self._fronts():
            front.fit(examples.streams[name].source, names)

    def forward(self, batch: Batch) -> dict[str, torch.Tensor]:  # noqa: D102
        return self.decide(self.vectors(batch))

    def vectors(self, batch: Batch) -> torch.Tensor:
        """Return what the heads take, (batch, dim); where a task hears chunks (batch, chunks, dim + 1)."""
        heard = {name: stream(batch.streams[name]) for name, stream in zip(self.heard, self.streams, strict=True)}
        frames, mask = self.fusion(heard)
        if self.by_chunk and isinstance(self.pooling, ChunkPooling):
            return self.pooling.by_chunk(frames, mask)
        return self.pooling(frames, mask)

    def decide(self, vector: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the outputs of each task, (batch, outputs)."""
        return {task: head(vector) for task, head in zip(self.tasks, self.heads, strict=True)}

    def layer_weights(self) -> dict[str, list[float]]:
        """Return the weights of the layers of each stream that learns them."""
        weights = {name: front.layer_weights() for name, front in self._fronts()}
        return {name: found.tolist() for name, found in weights.items() if found is not None}

    def _fronts(self) -> Iterator[tuple[str, FrontModule]]:
        for name, stream in zip(self.heard, self.streams, strict=True):
            assert isinstance(stream, StreamModel)
            yield name, stream.front
