"""Weighted sums over layers straight from the stored bytes, and their gradients; one thread, compiled by numba.

A stored value is ``q * scale + offset``, so a weighted sum over layers is linear in the stored ``q``: no array of
all layers in float32 is ever made, and for a sum each byte is read once forward and once backward.
"""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numba
import numba.extending
import numpy as np
import numpy.typing as npt

from featurestore.format.codec import Frames

Floats = npt.NDArray[np.float32]
NEAR, BLOCK_FRAMES = 8192, 16
"""Factors that fit into the nearest cache; where there are more, each is fetched once for so many frames."""


class _Compiled:
    """A function of arrays that numba compiles for each kind of them, and keeps on disk for later processes.

    Processes that write numba's cache at once mix up its entries, so each waits for its turn.
    """

    def __init__(self, function: Callable[..., None]) -> None:
        try:
            self._run = numba.njit(fastmath=True, nogil=True, cache=True)(function)
        except RuntimeError:  # there is no folder that it could keep it in
            self._run = numba.njit(fastmath=True, nogil=True)(function)

    def __call__(self, *arrays: npt.NDArray[Any]) -> None:
        if not self._run.overloads:
            self._compile(arrays)
        try:
            self._run(*arrays)
        except TypeError:  # it is compiled for other kinds alone
            self._compile(arrays)
            self._run(*arrays)

    def _compile(self, arrays: tuple[npt.NDArray[Any], ...]) -> None:
        with _turn(self._run.stats.cache_path):
            self._run.disable_compile(False)
            with suppress(OSError):  # it is compiled, but the disk is full
                self._run.compile(tuple(numba.typeof(array) for array in arrays))
            self._run.disable_compile()  # but here


@contextmanager
def _turn(folder: str | None) -> Iterator[None]:
    """Wait until no other process is compiling."""
    if folder is None:
        yield
        return
    with open(Path(folder) / "kernels.lock", "w") as file:
        with suppress(OSError):  # not every file system has locks
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _decoded(stored: Any) -> Any:
    """Return a stored number as float32; `_decoding` says how, by its type."""
    raise NotImplementedError


@numba.extending.overload(_decoded, inline="always")
def _decoding(stored: Any) -> Any:
    def bfloat16(stored: Any) -> Any:
        return np.uint32(np.uint32(stored) << np.uint32(16)).view(np.float32)

    def float16(stored: Any) -> Any:  # exponent and mantissa move to their places, a factor mends the bias, 15 for 127
        bits = np.uint32(np.uint16(stored))
        moved = np.uint32((bits & np.uint32(0x7FFF)) << np.uint32(13) | (bits & np.uint32(0x8000)) << np.uint32(16))
        return moved.view(np.float32) * np.float32(2.0**112)

    def number(stored: Any) -> Any:
        return np.float32(stored)

    return {numba.types.uint16: bfloat16, numba.types.int16: float16}.get(stored, number)


@_Compiled
def _weighted_sum(stored: Any, factor: Any, constant: Any, out: Any) -> None:
    layers, frames, dim = stored.shape
    block = 1 if factor.size <= NEAR else BLOCK_FRAMES
    for begin in range(0, frames, block):
        end = min(frames, begin + block)
        for t in range(begin, end):
            row = out[t]
            for d in range(dim):
                row[d] = constant[d]
        for layer in range(0, layers - 1, 2):  # two at once: each row of sums is read and written half as often
            f, g = factor[layer], factor[layer + 1]
            for t in range(begin, end):
                values, others, row = stored[layer, t], stored[layer + 1, t], out[t]
                for d in range(dim):
                    row[d] += f[d] * _decoded(values[d]) + g[d] * _decoded(others[d])
        if layers % 2:
            f = factor[layers - 1]
            for t in range(begin, end):
                values, row = stored[layers - 1, t], out[t]
                for d in range(dim):
                    row[d] += f[d] * _decoded(values[d])


@_Compiled
def _frame_sums(stored: Any, gradient: Any, sums: Any) -> None:
    layers, frames, dim = stored.shape
    for layer in range(layers):
        row = sums[layer]
        for t in range(frames):
            values, g = stored[layer, t], gradient[t]
            for d in range(dim):
                row[d] += g[d] * _decoded(values[d])


@_Compiled
def _weighted_sum_int4(stored: Any, factor: Any, constant: Any, out: Any) -> None:
    layers, frames, pairs = stored.shape
    dim = out.shape[1]
    even, odd = np.empty((layers, pairs), np.float32), np.zeros((layers, pairs), np.float32)
    for layer in range(layers):
        for d in range(pairs):
            even[layer, d] = factor[layer, 2 * d]
            if 2 * d + 1 < dim:
                odd[layer, d] = factor[layer, 2 * d + 1]
    low, high = np.empty(pairs, np.float32), np.empty(pairs, np.float32)
    for t in range(frames):
        low[:], high[:] = 0, 0
        for layer in range(layers):
            values, f, g = stored[layer, t], even[layer], odd[layer]
            for d in range(pairs):
                low[d] += f[d] * np.float32(values[d] & 15)
                high[d] += g[d] * np.float32(values[d] >> 4)
        for d in range(pairs):
            out[t, 2 * d] = constant[2 * d] + low[d]
            if 2 * d + 1 < dim:
                out[t, 2 * d + 1] = constant[2 * d + 1] + high[d]


@_Compiled
def _frame_sums_int4(stored: Any, gradient: Any, sums: Any) -> None:
    layers, frames, pairs = stored.shape
    dim = gradient.shape[1]
    even, odd = np.empty((frames, pairs), np.float32), np.zeros((frames, pairs), np.float32)
    for t in range(frames):
        for d in range(pairs):
            even[t, d] = gradient[t, 2 * d]
            if 2 * d + 1 < dim:
                odd[t, d] = gradient[t, 2 * d + 1]
    low, high = np.empty(pairs, np.float32), np.empty(pairs, np.float32)
    for layer in range(layers):
        low[:], high[:] = 0, 0
        for t in range(frames):
            values, f, g = stored[layer, t], even[t], odd[t]
            for d in range(pairs):
                low[d] += f[d] * np.float32(values[d] & 15)
                high[d] += g[d] * np.float32(values[d] >> 4)
        for d in range(pairs):
            sums[layer, 2 * d] += low[d]
            if 2 * d + 1 < dim:
                sums[layer, 2 * d + 1] += high[d]


@_Compiled
def fold(share: Any, scale: Any, offset: Any, mean: Any, kept: Any, factor: Any, constant: Any) -> None:
    """Fill what `weighted_sum` takes: ``kept`` (dim) * the sum over layers of ``share`` * (decoded - ``mean``).

    All but ``kept`` and ``constant`` (dim) are (layers, dim).
    """
    layers, dim = share.shape
    constant[:] = 0
    for layer in range(layers):
        for d in range(dim):
            factor[layer, d] = share[layer, d] * scale[layer, d] * kept[d]
            constant[d] += share[layer, d] * (offset[layer, d] - mean[layer, d]) * kept[d]


@_Compiled
def add_slopes(slopes: Any, sums: Any, total: Any, scale: Any, offset: Any, mean: Any, sd: Any, kept: Any) -> None:
    """Add to ``slopes`` (layers) how much the loss rises with the weight of each layer.

    Args:
        slopes: in double precision.
        sums: `frame_sums` of the gradient, (layers, dim).
        total: sum over frames of the gradient, (dim).
        scale: of what is stored, (layers, dim); likewise ``offset``, ``mean`` and ``sd``.
        offset: added to it.
        mean: subtracted from what is decoded.
        sd: divides that.
        kept: factor of each channel, (dim).
    """
    layers, dim = sums.shape
    for layer in range(layers):
        slope = 0.0
        for d in range(dim):
            centred = scale[layer, d] * sums[layer, d] + (offset[layer, d] - mean[layer, d]) * total[d]
            slope += centred / sd[layer, d] * kept[d]
        slopes[layer] += slope


def weighted_sum(frames: Frames, factor: Floats, constant: Floats, out: Floats) -> None:
    """Fill ``out`` (frames, dim): the sum over layers of ``factor`` (layers, dim) * stored, and ``constant`` (dim).

    The frames must lie so that the channels of a frame are neighbours, as they do in a store.
    """
    kernel = _weighted_sum_int4 if frames.dtype == "int4" else _weighted_sum
    kernel(_typed(frames), factor, constant, out)


def frame_sums(frames: Frames, gradient: Floats) -> Floats:
    """Return the sum over frames of ``gradient`` (frames, dim) * stored, (layers, dim)."""
    sums = np.zeros((len(frames.values), frames.dim), np.float32)
    kernel = _frame_sums_int4 if frames.dtype == "int4" else _frame_sums
    kernel(_typed(frames), gradient, sums)
    return sums


def _typed(frames: Frames) -> npt.NDArray[Any]:
    """Return what is stored by the type that tells `_decoding` what it is: numba has no float16."""
    return frames.values.view(np.int16) if frames.dtype == "float16" else frames.values
