"""Chunks: golden values, and what holds of all lengths."""

from resource import RUSAGE_SELF, getrusage

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some

from featurestore.shared.errors import SerError
from train.curves.chunks import chunk_frames, chunk_starts, chunk_times, count_chunks, cut

FRAMES, COUNT = some.integers(1, 80), some.integers(2, 60)


@pytest.mark.parametrize(
    ("seconds", "hop", "frames"), [(1.0, 0.02, 50), (1.0, 0.016, 62), (0.2, 0.02, 10), (1.0, 0.01, 100)]
)
def test_frames_of_a_chunk(seconds, hop, frames):
    assert chunk_frames(seconds, hop) == frames


def test_chunks_of_a_corpus():
    assert [count_chunks(11.0, 1.0, density) for density in (1, 2, 3)] == [11, 22, 33]
    assert count_chunks(3.3, 1.1, 1) == 3  # 3.3 / 1.1 is 2.9999999999999996
    assert count_chunks(11.04, 1.0, 2) == 24


@pytest.mark.parametrize(
    ("length", "frames", "count", "step", "lost"),
    [(150, 50, 22, 4, 16), (687, 62, 22, 29, 16), (687, 62, 11, 62, 5), (550, 50, 11, 50, 0)],
)
def test_starts_by_the_published_rounding(length, frames, count, step, lost):
    starts = chunk_starts(length, frames, count, legacy_floor=True)
    assert starts.tolist() == [step * k for k in range(count)]
    assert length - (starts[-1] + frames) == lost


def test_starts_reach_the_end():
    assert chunk_starts(150, 50, 22).tolist()[:6] == [0, 5, 10, 14, 19, 24]
    assert chunk_starts(150, 50, 22)[-1] == 100
    assert chunk_starts([150, 60], 50, 3).tolist() == [[0, 50, 100], [0, 5, 10]]


@given(frames=FRAMES, count=COUNT, more=some.integers(0, 5000))
def test_every_length_is_covered_evenly(frames, count, more):
    starts = chunk_starts(frames + more, frames, count)
    steps = np.diff(starts)
    assert starts[0] == 0
    assert starts[-1] + frames == frames + more
    assert (steps >= 0).all()
    assert steps.max() - steps.min() <= 1
    floored = chunk_starts(frames + more, frames, count, legacy_floor=True)
    assert len(set(np.diff(floored))) == 1
    assert 0 <= more - floored[-1] <= count - 2


@given(length=some.integers(1, 80), short=some.integers(0, 79), count=COUNT)
def test_a_short_utterance_begins_all_its_chunks(length, short, count):
    assert chunk_starts(length, length + short, count).tolist() == [0] * count


def test_one_chunk_is_refused():
    with pytest.raises(SerError, match="found 1 chunk, expected two or more"):
        chunk_starts(100, 50, 1)


def test_chunks_of_a_batch():
    lengths = np.array([9, 4, 1])
    mask = torch.arange(9) < torch.from_numpy(lengths)[:, None]
    values = torch.arange(9.0).expand(3, 9)[..., None] * mask[..., None]
    chunks, there = cut(values, mask, chunk_starts(lengths, 4, 3), 4)
    assert chunks[0, :, :, 0].tolist() == [[0, 1, 2, 3], [3, 4, 5, 6], [5, 6, 7, 8]]
    assert there[0].all()
    assert chunks[1, :, :, 0].tolist() == [[0, 1, 2, 3]] * 3
    assert there[1].all()
    assert there[2].tolist() == [[True, False, False, False]] * 3


def test_chunks_of_a_batch_of_short_utterances():
    values, mask = torch.ones(2, 2, 3), torch.tensor([[True, True], [True, False]])
    chunks, there = cut(values, mask, chunk_starts([2, 1], 4, 3), 4)
    assert chunks.shape == (2, 3, 4, 3)
    assert there.sum(dim=-1).tolist() == [[2, 2, 2], [1, 1, 1]]
    assert (chunks[~there] == 0)[0].all()


def test_the_gradient_of_chunks_is_as_large_as_their_frames():
    """Of a view of all windows it would be 50 times what is stored: 3 GB."""
    frames = torch.randn(1, 120_000, 128, requires_grad=True)
    chunks, there = cut(frames, torch.ones(1, 120_000, dtype=torch.bool), chunk_starts([120_000], 50, 22), 50)
    before = getrusage(RUSAGE_SELF).ru_maxrss
    chunks.square().sum().backward()
    assert (getrusage(RUSAGE_SELF).ru_maxrss - before) / 1e6 < 0.5
    assert there.all()
    assert int((frames.grad != 0).any(dim=2).sum()) == 22 * 50
    assert torch.equal(frames.grad[0, -50:], 2 * frames[0, -50:].detach())


def test_times_of_chunks():
    times = 0.0125 + 0.02 * np.arange(150)
    found = chunk_times(times, 50, 22)
    assert found[0] == pytest.approx([0.0025, 0.5025, 1.0025])
    assert found[-1] == pytest.approx([2.0025, 2.5025, 3.0025])
    assert chunk_times(0.02 * np.arange(150), 50, 22)[0] == pytest.approx([0, 0.49, 0.99])
    short = chunk_times(times[:10], 50, 3)
    assert short == pytest.approx(np.array([[0.0025, 0.1025, 0.2025]] * 3))
