import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from featurestore.format.codec import Frames
from train.fronts.log_f0 import HeightAndVoicing
from train.numerics.align import align_nearest, align_pitch, align_repeated, nearest_frames
from train.reading.batch import StreamBatch


def heard(f0, times, clock):
    """Return log-F0 and voicing at the times of the clock, as a model hears them."""
    voiced = f0 > 0
    height = np.log(np.where(voiced, f0, 1))
    frames = Frames(np.stack([height, voiced], axis=1).astype(np.float32)[None], "float32", 2)
    batch = StreamBatch([frames], [len(clock)], [align_pitch(voiced, times, clock)])
    log_f0, voicing = batch.align(HeightAndVoicing(by_training_part=False)([frames])).T.numpy()
    assert set(voicing) <= {0, 1}
    return log_f0, voicing > 0


def glide(times):
    return 110 * 2 ** (times / 2)  # half an octave a second


@pytest.mark.parametrize("first", [0.02, 0.0213, 0.0249])
def test_a_glide_keeps_its_pitch_at_every_time(first):
    times = first + 0.01 * np.arange(200)
    clock = 0.0125 + 0.02 * np.arange(100)
    log_f0, voiced = heard(glide(times).astype(np.float32), times, clock)
    covered = (clock > times[0]) & (clock < times[-1])
    semitones = 12 * (log_f0[covered] - np.log(glide(clock[covered]))) / np.log(2)
    assert voiced[covered].all()
    assert np.abs(semitones).max() < 0.01


def test_time_is_kept_across_a_pause():
    """A tone, a pause and another tone: what is said at the end must not move to the middle."""
    times = 0.02 + 0.01 * np.arange(400)
    f0 = np.where(times < 1, 100.0, np.where(times < 3, 0.0, 300.0)).astype(np.float32)
    clock = 0.0125 + 0.02 * np.arange(199)
    log_f0, voiced = heard(f0, times, clock)
    assert np.array_equal(voiced, (clock < 1) | (clock >= 3 - 0.005))
    assert np.allclose(np.exp(log_f0[clock < 1]), 100, rtol=1e-5)
    assert np.allclose(np.exp(log_f0[clock > 3]), 300, rtol=1e-5)
    assert (log_f0[~voiced] == 0).all()


def test_pitch_is_not_interpolated_across_an_edge_of_voicing():
    times = np.array([0.0, 0.01, 0.02, 0.03])
    log_f0, voiced = heard(np.array([200, 200, 0, 0], np.float32), times, np.array([0.012, 0.018]))
    assert voiced.tolist() == [True, False]
    assert np.exp(log_f0[0]) == pytest.approx(200, rel=1e-6)


def test_beyond_the_contour_nothing_is_invented():
    times = 0.02 + 0.01 * np.arange(5)
    _, voiced = heard(np.full(5, 200, np.float32), times, np.array([0.0, 0.04, 0.08, 0.2]))
    assert voiced.tolist() == [False, True, False, False]


def test_one_frame():
    log_f0, voiced = heard(np.array([0.0], np.float32), np.array([0.014]), np.array([0.0125, 0.0325]))
    assert not voiced.any()
    assert (log_f0 == 0).all()


@given(
    first=st.floats(0, 0.05),
    count=st.integers(2, 50),
    clock=st.lists(st.floats(0, 1), min_size=1, max_size=30),
)
def test_nearest_is_nearest(first, count, clock):
    times, clock = first + 0.01 * np.arange(count), np.sort(clock)
    nearest, _ = nearest_frames(times, clock)
    assert np.allclose(np.abs(times[nearest] - clock), np.abs(times[:, None] - clock).min(axis=0), atol=1e-12)


def test_what_is_aligned_keeps_to_its_own_utterance():
    """Frames of several utterances lie one after another: none takes a frame of its neighbour."""
    frames = [Frames(np.full((1, count, 1), count, np.float32), "float32", 1) for count in (3, 1, 5)]
    times = [0.01 * np.arange(frame.values.shape[1]) for frame in frames]
    clocks = [np.arange(count) * 0.02 for count in (4, 2, 3)]
    found = [align_nearest(time, clock) for time, clock in zip(times, clocks, strict=True)]
    found[1] = align_repeated(2)
    packed = torch.from_numpy(np.concatenate([frame.values[0] for frame in frames]))
    values = StreamBatch(frames, [4, 2, 3], found).align(packed)
    assert values[:, 0].tolist() == [3, 3, 0, 0, 1, 1, 5, 5, 5]
