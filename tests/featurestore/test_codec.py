"""Frames become bytes and come back within the error that is promised."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from featurestore.format.codec import encode, pool, stored_width

EPS = float(np.finfo(np.float32).eps)


def frames(limit):
    limit = float(np.float32(limit))
    shapes = array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=8)
    return arrays(np.float32, shapes, elements=st.floats(-limit, limit, width=32))


@settings(max_examples=100)
@given(frames(1e38))
def test_float32_is_exact(values):
    stored = encode(values, "float32")
    assert stored.values.dtype == np.float32
    assert stored.decode().tobytes() == values.tobytes()


@settings(max_examples=100)
@given(frames(65504))
def test_float16_is_within_half_of_its_last_digit(values):
    stored = encode(values, "float16")
    assert stored.values.dtype == np.float16
    error = np.abs(stored.decode().astype(float) - values)
    assert (error <= 2**-11 * np.abs(values.astype(float)) + 2**-25).all()


@settings(max_examples=100)
@given(frames(3e38))
def test_bfloat16_is_within_half_of_its_last_digit(values):
    stored = encode(values, "bfloat16")
    assert stored.values.dtype == np.uint16
    error = np.abs(stored.decode().astype(float) - values)
    assert (error <= 2**-8 * np.abs(values.astype(float)) + 2**-134).all()


def test_bfloat16_is_that_of_torch():
    values = np.random.default_rng(0).normal(0, 100, (2, 500, 3)).astype(np.float32)
    expected = torch.from_numpy(values).to(torch.bfloat16)
    assert np.array_equal(encode(values, "bfloat16").values, expected.view(torch.uint16).numpy())


@pytest.mark.parametrize(("dtype", "element", "steps"), [("int8", np.int8, 255), ("int4", np.uint8, 15)])
@settings(max_examples=200)
@given(values=frames(1e30))
def test_quantised_values_are_within_half_a_step_of_the_channel(dtype, element, steps, values):
    stored = encode(values, dtype)
    assert stored.values.dtype == element
    assert stored.values.shape[2] == stored_width(dtype, values.shape[2])
    exact = values.astype(float)
    step = (exact.max(axis=1) - exact.min(axis=1)) / steps
    rounding = 8 * EPS * np.abs(exact).max(axis=1) + 1e-42
    error = np.abs(stored.decode() - exact).max(axis=1)
    assert (error <= step / 2 + rounding).all()


@settings(max_examples=50)
@given(arrays(np.float32, (2, 1, 3), elements=st.floats(-(2.0**126), 2.0**126, width=32)), st.integers(1, 40))
def test_quantised_constant_channels_are_exact(values, count):
    constant = np.repeat(values, count, axis=1)
    for dtype in ("int8", "int4"):
        assert np.array_equal(encode(constant, dtype).decode(), constant)


def test_int8_scale_belongs_to_one_layer_and_channel():
    values = np.random.default_rng(0).normal(size=(2, 50, 3)).astype(np.float32)
    stored = encode(values, "int8")
    assert stored.scale.shape == stored.offset.shape == (2, 3)
    values[1, 0, 2] = 1e6
    other = encode(values, "int8")
    same = np.ones((2, 3), bool)
    same[1, 2] = False
    assert np.array_equal(other.scale == stored.scale, same)
    assert np.array_equal(other.decode()[0], stored.decode()[0])


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "int8", "int4"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused_with_their_layers(dtype, bad):
    values = np.zeros((4, 5, 2), np.float32)
    values[1, 2, 0] = values[3, 4, 1] = bad
    with pytest.raises(ValueError, match=r"not finite in layers \[1, 3\]"):
        encode(values, dtype)


@pytest.mark.parametrize("bad", [65600, -65600, 3e38])
def test_float16_refuses_what_it_cannot_hold(bad):
    values = np.zeros((2, 3, 2), np.float32)
    values[1, 2, 0] = bad
    with pytest.raises(ValueError, match="float16 holds at most 65504: store it as float32"):
        encode(values, "float16")


@pytest.mark.parametrize("dtype", ["int8", "int4"])
def test_a_range_that_float32_cannot_hold_is_refused(dtype):
    frames = np.array([[[-3e38], [3e38]]], np.float32)
    with pytest.raises(ValueError, match=r"a channel from -3e\+38 to 3e\+38, a range too large"):
        encode(frames, dtype)


def test_no_frame_is_refused():
    with pytest.raises(ValueError, match="it has no frames"):
        encode(np.zeros((2, 0, 3), np.float32), "int8")


def test_golden_float16_bytes():
    values = np.array([1.0, -2.0, 65504.0, 2**-24, 1 / 3], np.float32).reshape(1, 5, 1)
    assert encode(values, "float16").values.astype("<f2").tobytes().hex() == "003c00c0ff7b01005535"


def test_golden_int8_values():
    values = np.array([[-1.0, 7.0], [0.1, 7.0], [0.25, 7.0], [1.0, 7.0]], np.float32)[None]
    stored = encode(values, "int8")
    assert stored.values[0].T.tolist() == [[-128, 12, 31, 127], [0, 0, 0, 0]]
    assert stored.scale.tolist() == [[np.float32(2) / np.float32(255), 0.0]]
    assert np.allclose(stored.offset, [[-1 + 128 * 2 / 255, 7.0]], atol=1e-6)


def test_golden_int4_bytes():
    values = np.array([[0.0, 10.0, -3.0], [1.0, 40.0, -3.0], [0.6, 24.0, -3.0]], np.float32)[None]
    stored = encode(values, "int4")
    assert stored.values[0].tolist() == [[0x00, 0x00], [0xFF, 0x00], [0x79, 0x00]]
    assert stored.scale.tolist() == [[np.float32(1) / np.float32(15), 2.0, 0.0]]
    assert stored.offset.tolist() == [[0.0, 10.0, -3.0]]


def test_golden_bfloat16_bits():
    values = np.array([1.0, -2.0, 1.0 + 2**-8, 1.0 + 3 * 2**-8, 1 / 3], np.float32).reshape(1, 5, 1)
    assert encode(values, "bfloat16").values.ravel().tolist() == [0x3F80, 0xC000, 0x3F80, 0x3F82, 0x3EAB]


@settings(max_examples=100)
@given(frames(1e6))
def test_pooled_statistics_are_those_of_double_precision(values):
    mean, sd = pool(values)
    exact = values.astype(float)
    size = np.abs(exact).max(axis=1)
    assert (np.abs(mean - exact.mean(axis=1)) <= 4 * EPS * size + 1e-30).all()
    assert (np.abs(sd - exact.std(axis=1)) <= 4e-4 * size + 1e-18).all()


def test_pooled_statistics_of_a_channel_far_from_zero():
    values = (500 + np.random.default_rng(0).normal(0, 0.01, (2, 1500, 4))).astype(np.float32)
    mean, sd = pool(values)
    assert np.allclose(mean, values.mean(axis=1, dtype=float), rtol=1e-7)
    assert np.allclose(sd, values.std(axis=1, dtype=float), rtol=1e-3)
