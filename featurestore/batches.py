"""Batches of utterances in an order that a seed fixes, read ahead in threads."""

from __future__ import annotations

import mmap
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import zip_longest
from math import prod
from threading import Lock
from typing import Any, Literal, TypeVar, get_args

import numpy as np
import numpy.typing as npt

from featurestore.codec import Frames
from featurestore.config import suggest
from featurestore.feature import Block, FeatureStore
from featurestore.files import PAGE
from featurestore.layers import Layers
from featurestore.plan import Ints
from featurestore.store import Store

T = TypeVar("T")
Shuffle = Literal["all", "shards"]
BUCKET_BATCHES = 16
"""Batches whose utterances are sorted by length together, so that a batch has little padding."""
WINDOW_SHARDS = 8
"""Shards whose utterances are mixed by a shard-local shuffle."""
AHEAD = 4
"""Utterances that the kernel is asked for before they are read."""
HUGE_PAGE = 2 << 20
MOST_FREE = 1 << 30
"""Bytes that are kept for batches to come."""


@dataclass(frozen=True)
class Batch:
    """Some utterances and their features, ragged: one `Frames` per utterance.

    ``featurestore.codec.pad`` makes one padded array of a feature; ``Frames.decode`` makes float32 of what is stored.

    Attributes:
        names: of the utterances.
        frames: by feature, in the order of ``names``.
    """

    names: list[str]
    frames: dict[str, list[Frames]]


def batches(
    store: Store,
    names: Sequence[str],
    features: Sequence[str],
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
        store: to read from.
        names: of the utterances; one that is named twice comes twice.
        features: to read. The lengths of the first decide which utterances share a batch.
        layers: of each feature, all where it is not named.
        frames: of the first feature in a batch, with the padding to its longest utterance; an utterance that is
            longer is a batch of its own.
        utterances: in a batch, instead of ``frames``.
        seed: of the order; by length when absent.
        shuffle: ``all`` mixes all utterances. ``shards`` takes whole shards in random order and mixes the utterances
            of a few of them: for stores that exceed memory on disks, or links, that want long reads.
        collate: applied to each batch in the thread that has read it; what it returns is yielded.
        copy: into buffers that are used again once nothing refers to them; otherwise views of the files.
        cached: read through the page cache; otherwise past it, which is faster for stores that exceed memory, and never
            faster the second time.
        threads: that read; by default 2, past the page cache 6, for a remote store 16.

    Raises:
        StoreError: if an utterance lacks a feature.
        ValueError: if not exactly one of ``frames`` and ``utterances`` is given, or no feature, or an argument is not
            one of those named above; or if ``copy`` and ``cached`` are both False.
    """
    features = list(features)
    if not (copy or cached):
        raise ValueError("expected copies of what is read past the page cache, found copy=False with cached=False")
    if not features:
        raise ValueError("expected some features to read, found none")
    if shuffle not in get_args(Shuffle):
        raise ValueError(f"expected shuffle to be one of {', '.join(get_args(Shuffle))}, found {shuffle!r}")
    if threads is not None and threads < 1:
        raise ValueError(f"expected 1 thread or more, found {threads}")
    for feature in layers or {}:
        if feature not in features:
            raise ValueError(f"layers of {feature!r}, which is not read{suggest(feature, features)}")
    parts = {feature: store.feature(feature) for feature in features}
    first = parts[features[0]]
    names = list(names)
    rows = np.array([store.index[name] for name in names], np.int64)
    order = batch_order(
        first.lengths[rows],
        frames=frames,
        utterances=utterances,
        seed=seed,
        groups=store.index.shard[rows] if shuffle == "shards" else None,
    )
    reader = _Reader(parts, dict(layers or {}), copy, cached)

    def read(positions: Ints) -> Any:
        batch = reader.read([names[position] for position in positions.tolist()])
        return batch if collate is None else collate(batch)

    if threads is None:
        threads = 16 if store.remote else 2 if cached else 6
    return read_ahead(read, order, threads)


def batch_order(
    lengths: Sequence[int] | Ints,
    *,
    frames: int | None = None,
    utterances: int | None = None,
    seed: int | None = None,
    groups: Ints | None = None,
) -> list[Ints]:
    """Return positions in batches of similar length; with a seed shuffled, the same for the same seed.

    Args:
        lengths: of the utterances, in frames.
        frames: most frames in a batch, with its padding.
        utterances: in a batch, instead.
        seed: of the order; by length when absent.
        groups: of each utterance (its shard): only utterances of `WINDOW_SHARDS` groups are mixed.

    >>> [batch.tolist() for batch in batch_order([5, 9, 4, 30, 6], utterances=2)]
    [[2, 0], [4, 1], [3]]
    >>> [batch.tolist() for batch in batch_order([5, 9, 4, 30, 6], frames=18)]
    [[2, 0, 4], [1], [3]]
    """
    if (frames is None) == (utterances is None):
        raise ValueError(f"expected one of frames and utterances, found frames={frames} and utterances={utterances}")
    if not (frames or utterances or 0) >= 1:
        raise ValueError(f"expected a batch of 1 or more, found frames={frames} and utterances={utterances}")
    lengths = np.asarray(lengths, np.int64)
    if not len(lengths):
        return []
    if seed is None:
        return _fill(np.argsort(lengths, kind="stable"), lengths, frames, utterances)
    rng = np.random.default_rng(seed)
    if groups is None:
        windows = [rng.permutation(len(lengths))]
    else:
        numbers = rng.permutation(np.unique(groups))
        windows = [
            rng.permutation(np.flatnonzero(np.isin(groups, numbers[i : i + WINDOW_SHARDS])))
            for i in range(0, len(numbers), WINDOW_SHARDS)
        ]
    batches = []
    for window in windows:
        size = utterances or max(1, round((frames or 1) / max(1.0, float(lengths[window].mean()))))
        in_window: list[Ints] = []
        for start in range(0, len(window), size * BUCKET_BATCHES):
            bucket = window[start : start + size * BUCKET_BATCHES]
            bucket = bucket[np.argsort(lengths[bucket], kind="stable")]
            in_window += _fill(bucket, lengths, frames, utterances)
        batches += [in_window[i] for i in rng.permutation(len(in_window))]
    return batches


def _fill(order: Ints, lengths: Ints, frames: int | None, utterances: int | None) -> list[Ints]:
    """Cut ``order``, in which lengths rise, into batches."""
    if utterances is not None:
        return [order[i : i + utterances] for i in range(0, len(order), utterances)]
    cuts, begin = [0], 0
    for i, length in enumerate(lengths[order].tolist()):
        if i > begin and (i + 1 - begin) * length > (frames or 0):
            begin = i
            cuts.append(i)
    return [order[a:b] for a, b in zip(cuts, [*cuts[1:], len(order)], strict=True) if b > a]


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

    def __init__(self, parts: dict[str, FeatureStore], layers: dict[str, Layers], copy: bool, cached: bool) -> None:
        self._parts, self._layers, self._copy, self._cached = parts, layers, copy, cached

    def read(self, names: list[str]) -> Batch:
        return Batch(names, {feature: self._read(part, names) for feature, part in self._parts.items()})

    def _read(self, part: FeatureStore, names: list[str]) -> list[Frames]:
        blocks = [part.block(name, self._layers.get(part.name)) for name in names]
        if not self._copy:
            return [
                part.frames_of(block, block.reader.get(block.first, block.length, block.run))
                for block in _prefetched(blocks)
            ]
        places = [block.place for block in blocks]
        dtype = part.layouts["data"].dtype
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
            frames.append(part.frames_of(block, content.view(dtype).reshape(shape)))
            end += room
        return frames

    def _in_turn(self, blocks: Sequence[Block]) -> Iterable[Block]:
        return _prefetched(blocks) if self._cached else blocks


def _prefetched(blocks: Sequence[Block]) -> Iterator[Block]:
    """Yield ``blocks``, of each of which the kernel has been told `AHEAD` blocks before."""
    for block in blocks[:AHEAD]:
        block.prefetch()
    for block, later in zip_longest(blocks, blocks[AHEAD:]):
        yield block
        if later is not None:
            later.prefetch()


class _Buffers:
    """Page-aligned memory that comes back when nothing refers to it: fresh pages cost more than the copy itself."""

    def __init__(self) -> None:
        self._free: list[mmap.mmap] = []
        self._returned: deque[mmap.mmap] = deque()  # filled by finalizers, which may run anywhere and take no lock
        self._lock = Lock()

    def take(self, size: int) -> npt.NDArray[np.uint8]:
        """Return ``size`` bytes."""
        buffer = self._reuse(size) or _map_memory(size)
        array = np.frombuffer(buffer, np.uint8, size)
        weakref.finalize(array, self._returned.append, buffer)
        return array

    def _reuse(self, size: int) -> mmap.mmap | None:
        """Return the smallest free buffer that is large enough."""
        with self._lock:
            while self._returned:
                self._free.append(self._returned.popleft())
            self._free.sort(key=len)
            while len(self._free) > 1 and sum(map(len, self._free)) > MOST_FREE:
                del self._free[0]  # small ones are made again soon
            fitting = [number for number, buffer in enumerate(self._free) if len(buffer) >= size]
            return self._free.pop(fitting[0]) if fitting else None


def _map_memory(size: int) -> mmap.mmap:
    """Return new memory of this process alone, with room to be used again for a batch that is a little larger."""
    length = -(-(size + size // 8) // HUGE_PAGE) * HUGE_PAGE
    buffer = mmap.mmap(-1, max(HUGE_PAGE, length), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        buffer.madvise(mmap.MADV_HUGEPAGE)
    return buffer


BUFFERS = _Buffers()
"""Of this process."""
