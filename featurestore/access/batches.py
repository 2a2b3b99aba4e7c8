"""Batches of utterances in an order that a seed fixes, read ahead in threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import zip_longest
from math import prod
from typing import Any, Literal, TypeVar, get_args

import numpy as np

from featurestore.access.batch_order import batch_order
from featurestore.access.buffers import BUFFERS
from featurestore.access.feature import Block, FeatureStore
from featurestore.access.layers import Layers
from featurestore.format.codec import Frames
from featurestore.format.files import PAGE
from featurestore.format.index import Index
from featurestore.format.plan import Ints
from featurestore.shared.config import suggest

T = TypeVar("T")
Shuffle = Literal["all", "shards"]
AHEAD = 4
"""The kernel is told of a read so many utterances ahead; without that, one layer of 25 x 1024 takes 1.5 times as long
from the disk, and all layers 1.05 to 1.7 times."""


@dataclass(frozen=True)
class Batch:
    """Some utterances and their features, ragged: one `Frames` per utterance.

    `featurestore.format.codec.pad` makes one padded array of a feature; `Frames.decode` makes float32.

    Attributes:
        names: of the utterances.
        frames: by feature, in the order of ``names``.
    """

    names: list[str]
    frames: dict[str, list[Frames]]


def batches(
    features: Mapping[str, FeatureStore],
    index: Index,
    names: Sequence[str],
    *,
    layers: Mapping[str, Layers] | None = None,
    frames: int | None = None,
    utterances: int | None = None,
    seed: int | None = None,
    shuffle: Shuffle = "all",
    collate: Callable[[Batch], Any] | None = None,
    copy: bool = True,
    cached: bool = True,
    threads: int | None = None,
) -> Iterator[Any]:
    """Yield batches of utterances of similar length, in an order that depends on the arguments alone.

    Args:
        features: to read, by name, of one store. The lengths of the first decide which utterances share a batch.
        index: of that store.
        names: of the utterances; one that is named twice comes twice.
        layers: to read, by feature; all of a feature that is not named.
        frames: the most frames of the first feature in a batch, padding included; an utterance that is longer is a
            batch of its own.
        utterances: their number in a batch, instead of ``frames``.
        seed: of the order; when absent the order is by length.
        shuffle: ``all`` mixes all utterances. ``shards`` takes whole shards in random order and mixes the utterances
            of a few of them: for stores larger than memory on disks, or links, that need long reads.
        collate: applied to each batch in the thread that has read it; what it returns is yielded.
        copy: whether to copy frames into buffers, which are reused once nothing refers to them, or to return views of
            the files.
        cached: whether to read through the page cache. Reading past it is faster for stores larger than memory, but
            the second time is no faster than the first.
        threads: number of threads that read; when absent 2, past the page cache 6, for a remote store 16.

    Raises:
        StoreError: if an utterance lacks a feature.
        ValueError: if not exactly one of ``frames`` and ``utterances`` is given, or no feature, or another value than
            those above; or if ``copy`` and ``cached`` are both False.
    """
    if not (copy or cached):
        raise ValueError(
            "found copy=False with cached=False, expected one of them: past the page cache there are no views"
        )
    if not features:
        raise ValueError("found no feature to read, expected one or more")
    if shuffle not in get_args(Shuffle):
        raise ValueError(f"expected shuffle to be one of {', '.join(get_args(Shuffle))}, found {shuffle!r}")
    if threads is not None and threads < 1:
        raise ValueError(f"expected 1 thread or more, found {threads}")
    for feature in layers or {}:
        if feature not in features:
            raise ValueError(
                f"found layers of {feature!r}, which is not among the features to read{suggest(feature, features)}"
            )
    first = next(iter(features.values()))
    names = list(names)
    rows = np.array([index[name] for name in names], np.int64)
    order = batch_order(
        first.lengths[rows],
        frames=frames,
        utterances=utterances,
        seed=seed,
        groups=index.shard[rows] if shuffle == "shards" else None,
    )
    reader = _Reader(features, dict(layers or {}), copy, cached)

    def read(positions: Ints) -> Any:
        batch = reader.read([names[position] for position in positions.tolist()])
        return batch if collate is None else collate(batch)

    if threads is None:
        threads = 16 if first.remote else 2 if cached else 6
    return read_ahead(read, order, threads)


def read_ahead(read: Callable[[Ints], T], order: Sequence[Ints], threads: int = 1) -> Iterator[T]:
    """Yield ``read`` of each element of ``order``, in order, a little ahead of its use."""
    with ThreadPoolExecutor(max_workers=threads) as pool:
        ahead: deque[Future[T]] = deque()
        try:
            for positions in order:
                ahead.append(pool.submit(read, positions))
                if len(ahead) > threads:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()


class _Reader:
    """Reads batches into recycled buffers."""

    def __init__(
        self, features: Mapping[str, FeatureStore], layers: dict[str, Layers], copy: bool, cached: bool
    ) -> None:
        self._features, self._layers, self._copy, self._cached = features, layers, copy, cached

    def read(self, names: list[str]) -> Batch:
        """Return the batch of these utterances."""
        return Batch(names, {name: self._read(feature, names) for name, feature in self._features.items()})

    def _read(self, feature: FeatureStore, names: list[str]) -> list[Frames]:
        blocks = [feature.block(name, self._layers.get(feature.name)) for name in names]
        if not self._copy:
            return [
                feature.frames_of(block, block.reader.get(block.first, block.length, block.run))
                for block in _prefetched(blocks)
            ]
        places = [block.place for block in blocks]
        dtype = feature.layouts["data"].dtype
        sizes = [prod(shape) * dtype.itemsize for _, shape in places]
        rooms = sizes if self._cached else [-(-size // PAGE) * PAGE + 2 * PAGE for size in sizes]
        buffer = BUFFERS.take(sum(rooms))
        frames, end = [], 0
        for block, (offset, shape), size, room in zip(self._in_turn(blocks), places, sizes, rooms, strict=True):
            content = buffer[end : end + size]
            if self._cached or not block.reader.contiguous:
                block.read_into(content.view(dtype).reshape(shape), offset)
            else:
                content = block.reader.read_direct(buffer[end : end + room], offset, size)
            frames.append(feature.frames_of(block, content.view(dtype).reshape(shape)))
            end += room
        return frames

    def _in_turn(self, blocks: Sequence[Block]) -> Iterable[Block]:
        return _prefetched(blocks) if self._cached else blocks


def _prefetched(blocks: Sequence[Block]) -> Iterator[Block]:
    """Yield ``blocks``, asking the kernel for each of them `AHEAD` blocks before its turn."""
    for block in blocks[:AHEAD]:
        block.prefetch()
    for block, later in zip_longest(blocks, blocks[AHEAD:]):
        yield block
        if later is not None:
            later.prefetch()
