"""Frames become bytes and come back within the error that is promised."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from featurestore.codec import encode

EPS = float(np.finfo(np.float32).eps)


def frames(limit):
    limit = float(np.float32(limit))
    shapes = array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=8)
    return arrays(np.float32, shapes, elements=st.floats(-limit, limit, width=32))


@settings(max_examples=100, deadline=None)
@given(frames(1e38))
def test_float32_is_exact(values):
    stored = encode(values, "float32")
    assert stored.values.dtype == np.float32
    assert stored.decode().tobytes() == values.tobytes()


@settings(max_examples=100, deadline=None)
@given(frames(65504))
def test_float16_is_within_half_of_its_last_digit(values):
    stored = encode(values, "float16")
    assert stored.values.dtype == np.float16
    error = np.abs(stored.decode().astype(float) - values)
    assert (error <= 2**-11 * np.abs(values.astype(float)) + 2**-25).all()


@settings(max_examples=200, deadline=None)
@given(frames(1e30))
def test_int8_is_within_half_a_step_of_the_channel(values):
    stored = encode(values, "int8")
    assert stored.values.dtype == np.int8
    exact = values.astype(float)
    step = (exact.max(axis=1) - exact.min(axis=1)) / 255
    rounding = 8 * EPS * np.abs(exact).max(axis=1) + 1e-42
    error = np.abs(stored.decode() - exact).max(axis=1)
    assert (error <= step / 2 + rounding).all()


@settings(max_examples=50, deadline=None)
@given(arrays(np.float32, (2, 1, 3), elements=st.floats(-(2.0**126), 2.0**126, width=32)), st.integers(1, 40))
def test_int8_keeps_constant_channels_exactly(values, count):
    constant = np.repeat(values, count, axis=1)
    assert np.array_equal(encode(constant, "int8").decode(), constant)


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


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
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
    with pytest.raises(ValueError, match="float16 ends at 65504: store it as float32 or int8"):
        encode(values, "float16")


def test_golden_float16_bytes():
    values = np.array([1.0, -2.0, 65504.0, 2**-24, 1 / 3], np.float32).reshape(1, 5, 1)
    assert encode(values, "float16").values.astype("<f2").tobytes().hex() == "003c00c0ff7b01005535"


def test_golden_int8_values():
    values = np.array([[-1.0, 7.0], [0.1, 7.0], [0.25, 7.0], [1.0, 7.0]], np.float32)[None]
    stored = encode(values, "int8")
    assert stored.values[0].T.tolist() == [[-128, 12, 31, 127], [0, 0, 0, 0]]
    assert stored.scale.tolist() == [[np.float32(2) / np.float32(255), 0.0]]
    assert np.allclose(stored.offset, [[-1 + 128 * 2 / 255, 7.0]], atol=1e-6)
