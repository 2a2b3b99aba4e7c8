"""What a GPU would send is what the store would have made of it, here computed on a CPU."""

import numpy as np
import pytest
import torch

from extract.encoders.transfer import Outbox
from featurestore.format.codec import encode, pool

DTYPES = ["float32", "float16", "bfloat16", "int8", "int4"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(3, 50, 8), (2, 1, 7), (1, 400, 33)])
def test_the_stored_form_is_that_of_the_store_bit_for_bit(dtype, shape):
    states = np.random.default_rng(0).normal(size=shape).astype(np.float32) * np.geomspace(1e-6, 300, shape[2]).astype(
        "f"
    )
    states[0, :, 0] = 3.25  # a channel that does not vary
    sent, expected = Outbox(torch.device("cpu"), dtype).send(torch.from_numpy(states)).open(0), encode(states, dtype)
    assert sent.frames.values.dtype == expected.values.dtype
    assert np.array_equal(sent.frames.values, expected.values)
    if expected.scale is not None:
        assert np.array_equal(sent.frames.scale, expected.scale)
        assert np.array_equal(sent.frames.offset, expected.offset)
    mean, sd = pool(states)
    assert np.allclose(sent.mean, mean, rtol=1e-5, atol=1e-5)
    assert np.allclose(sent.sd, sd, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_does_not_arrive(dtype, value):
    states = torch.zeros(2, 5, 4)
    states[1, 2, 3] = value
    assert Outbox(torch.device("cpu"), dtype).send(states).open(0) is None


def test_what_float16_cannot_hold_does_not_arrive():
    assert Outbox(torch.device("cpu"), "float16").send(torch.full((1, 2, 3), 7e4)).open(0) is None
    assert Outbox(torch.device("cpu"), "float16").send(torch.full((1, 2, 3), -7e4)).open(0) is None
