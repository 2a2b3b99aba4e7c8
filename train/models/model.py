"""The model: streams, each summed, standardised, embedded and modelled over time -> fusion -> pooling -> heads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn
from typing_extensions import override

from train.augmentations import Heard
from train.config import TrainConfig
from train.curves.heads import ChunkHead, by_place
from train.examples.clock import pooled_hop
from train.examples.examples import Examples
from train.examples.hearing import Hearing
from train.fronts import FrontModule, LayerWeights
from train.numerics.sequences import Packed, Sequences, pad
from train.poolings.chunks import ChunkPooling
from train.reading.batch import Batch, StreamBatch
from train.tasks import Goal
from train.temporal.none import NoTemporal


class StreamModel(nn.Module):
    """From what is stored of a feature to the frames that the fusion takes.

    Args:
        hearing: of the stream.
        meets: whether it meets other streams on the clock of the first.
        targets: how many the model has.

    Attributes:
        dim: channels of a frame.
    """

    def __init__(self, hearing: Hearing, meets: bool, targets: int) -> None:
        super().__init__()
        stream = hearing.stream
        assert stream.width is not None  # they are resolved
        assert stream.dropout is not None
        self.front = hearing.front.build(hearing.source, targets)
        self.dropout, self.meets = stream.dropout, meets
        self.embed = stream.embedding.build(self.front.dim, stream.width)
        self.alone = stream.embedding.each_alone
        self.plain = isinstance(stream.temporal, NoTemporal)
        self.temporal = stream.temporal.build(stream.embedding.width_of(self.front.dim, stream.width))
        self.dim, self.every = self.temporal.dim, stream.temporal.every

    def hear(self, batch: StreamBatch) -> Packed:
        """Return the frames as the front gives them, none of utterances that lack the stream."""
        nothing = self._zeros(0, self.front.views * self.front.dim)
        heard = self.front(batch.frames, self._kept(batch)) if batch.frames else nothing
        lengths = torch.tensor([frames.values.shape[1] for frames in batch.frames], dtype=torch.int64)
        return Packed(heard, batch.of_all(lengths).to(heard.device), self.front.views)

    def forward(self, batch: StreamBatch, heard: Packed | None = None) -> Sequences:
        """Return what the fusion takes, of what is ``heard`` if that is not what the front gives.

        Several views are as many utterances, see `Packed.one_after_another`.
        """
        heard = self.hear(batch) if heard is None else heard
        if heard.views > 1:
            batch, heard = batch.repeated(heard.views), heard.one_after_another()
        values, lengths = heard.values, heard.lengths
        if batch.there is None:
            return self._modelled(batch, values, lengths)
        if not batch.frames:
            nothing = self._zeros(len(batch.there), 1, self.dim)
            return Sequences(nothing, torch.zeros(nothing.shape[:2], dtype=torch.bool, device=nothing.device))
        found, mask = self._modelled(batch, values, lengths[batch.there.to(lengths.device)])
        return Sequences(batch.of_all(found), batch.of_all(mask))

    def _modelled(self, batch: StreamBatch, values: torch.Tensor, lengths: torch.Tensor) -> Sequences:
        """Return what the fusion takes of the utterances that have the stream."""
        if self.plain:
            return self._embedded(batch.align(values), torch.tensor(batch.lengths))
        found = self.temporal(*self._embedded(values, lengths))
        if not self.meets:
            return found
        repeated = found.values.repeat_interleave(self.every, dim=1)
        packed = torch.cat([one[:length] for one, length in zip(repeated, lengths.tolist(), strict=True)])
        return pad(batch.align(packed), torch.tensor(batch.lengths))

    def _embedded(self, packed: torch.Tensor, lengths: torch.Tensor) -> Sequences:
        if self.alone:
            return pad(self.embed(packed, None), lengths)
        values, mask = pad(packed, lengths)
        return Sequences(self.embed(values, mask), mask)

    def _kept(self, batch: StreamBatch) -> torch.Tensor | None:
        """Return the factor of each channel in a training step, (utterances, dim): zero for those that are left out."""
        if not (self.training and self.dropout):
            return None
        return self._zeros(len(batch.frames), self.front.dim).bernoulli_(1 - self.dropout) / (1 - self.dropout)

    def _zeros(self, *shape: int) -> torch.Tensor:
        return next(self.front.buffers()).new_zeros(shape)


class Model(nn.Module):
    """From a batch to the outputs of each task, (batch, outputs) by name.

    Args:
        config: the settings of its parts.
        streams: what it hears.
        goals: the tasks.
    """

    def __init__(self, config: TrainConfig, streams: Mapping[str, Hearing], goals: Mapping[str, Goal]) -> None:
        super().__init__()
        self.heard, self.augment = tuple(streams), config.augment
        self.targets = {task: tuple(goal.metrics) for task, goal in goals.items()}
        every = sum(map(len, self.targets.values()))
        self.hop = next(iter(streams.values())).source.spec.hop
        self.precision = config.precision
        self.raw = frozenset(config.fusion.raw)
        for one in config.augment:
            one.check([name for name in streams if name not in self.raw], config.fusion)
        meets = len(streams) > 1 and not config.fusion.own_clocks
        modules = {name: StreamModel(hearing, meets, every) for name, hearing in streams.items()}
        self.streams = nn.ModuleList(modules.values())
        self.views = max(module.front.views for module in modules.values())
        fusion = config.fusion.on_clocks({name: hearing.own_hop for name, hearing in streams.items()})
        self.fusion = fusion.build({name: module.dim for name, module in modules.items()})
        self.temporal = config.temporal.build(self.fusion.dim)
        self.pooling = config.pooling.on_clock(pooled_hop(streams, config)).build(self.temporal.dim)
        hearing = {name for name, task in config.tasks.items() if task.by_chunk}
        self.by_chunk = isinstance(self.pooling, ChunkPooling) and bool(hearing)
        heads = {name: config.head.build(self.pooling.dim, goal.outputs) for name, goal in goals.items()}
        self.heads = nn.ModuleList(
            ChunkHead(head, name in hearing) if self.by_chunk else head for name, head in heads.items()
        )
        learned = len(goals) if config.weights == "learned" else 0
        self.log_variances = nn.Parameter(torch.zeros(learned), requires_grad=learned > 0)

    def fit(self, examples: Examples, names: list[str]) -> None:
        """Take the statistics of the training part.

        Raises:
            SerError: if no utterance of it has one of the streams.
        """
        for name, front in self._fronts():
            hearing = examples.streams[name]
            front.fit(hearing.source, hearing.trained_on(names))

    @override
    def forward(self, batch: Batch) -> dict[str, torch.Tensor]:
        return self.decide(self.vectors(batch))

    def vectors(self, batch: Batch) -> torch.Tensor:
        """Return what the heads take, (batch, dim); where a task hears chunks (batch, chunks, dim + 1).

        Where each target has a view of its own, there are as many batches, one after another.
        """
        return self.encode(self.hear(batch))

    def hear(self, batch: Batch) -> Heard:
        """Return what is heard of a batch, in a training step with what augmentations change of it."""
        for one in self.augment:
            if one.cuts:
                lengths = next(iter(batch.streams.values())).lengths
                batch = batch.cut([one.span(length, self.hop, self.training) for length in lengths])
        changing = ((name, stream) for name, stream in self._streams() if name not in self.raw)
        heard = Heard(batch, {name: stream.hear(batch.streams[name]) for name, stream in changing})
        for one in self.augment if self.training else ():
            heard = one.change(heard)
        return heard

    def encode(self, heard: Heard) -> torch.Tensor:
        """Return what the heads take of what is heard, as `vectors` does."""
        streams = {}
        with self._precision():
            for name, stream in self._streams():
                found = stream(heard.batch.streams[name], heard.streams.get(name))
                streams[name] = found.repeated(self.views // stream.front.views)
            frames, mask = self.temporal(*self.fusion(streams))
        frames = frames.to(self.log_variances.dtype)
        if self.by_chunk and isinstance(self.pooling, ChunkPooling):
            return self.pooling.by_chunk(frames, mask)
        return self.pooling(frames, mask)

    def absences(self) -> Iterator[float]:
        """Set one after another what is absent, and yield which share of the loss is without it; then nothing is."""
        for absent, share in self.fusion.absences:
            self.fusion.absent = absent
            yield share
        self.fusion.absent = frozenset()

    def decide(self, vectors: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the outputs of each task, (batch, outputs)."""
        heads = dict(zip(self.targets, self.heads, strict=True))
        if self.views == 1:
            return {task: head(vectors) for task, head in heads.items()}
        views = iter(vectors.chunk(self.views))
        return {task: _each_of_its_own([head(next(views)) for _ in self.targets[task]]) for task, head in heads.items()}

    def layer_weights(self) -> dict[str, LayerWeights]:
        """Return the weights of the layers of each stream that learns them, where each target has its own by target."""
        targets = [target for of_task in self.targets.values() for target in of_task]
        found: dict[str, LayerWeights] = {}
        for name, front in self._fronts():
            weights = front.layer_weights()
            if weights is not None:
                listed = weights.tolist()
                found[name] = listed if front.views == 1 else dict(zip(targets, listed, strict=True))
        return found

    def _precision(self) -> AbstractContextManager[object]:
        """Return a context that computes in the precision of the config."""
        if self.precision == "float32":
            return nullcontext()
        return torch.autocast(self.log_variances.device.type, torch.bfloat16)

    def _fronts(self) -> Iterator[tuple[str, FrontModule]]:
        yield from ((name, stream.front) for name, stream in self._streams())

    def _streams(self) -> Iterator[tuple[str, StreamModel]]:
        for name, stream in zip(self.heard, self.streams, strict=True):
            assert isinstance(stream, StreamModel)
            yield name, stream


def _each_of_its_own(outputs: list[torch.Tensor]) -> torch.Tensor:
    """Return the outputs of a task, (batch, outputs), each target's from its own view, of those that every view gives.

    A task of several targets has one output of each, and with chunks one of each in every place.
    """
    if len(outputs) == 1:
        return outputs[0]
    count = len(outputs)
    own = [by_place(one, count)[..., target] for target, one in enumerate(outputs)]
    return torch.stack(own, dim=-1).flatten(1)
