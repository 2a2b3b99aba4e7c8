"""The layer sum from stored bytes, and its gradient, against float64 of what the bytes decode to."""

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from featurestore.format.codec import Frames, encode, pad
from tests.featurestore.toy import DTYPES
from train.numerics.kernels import frame_sums
from train.numerics.layers import LayerSum, _MixOnDevice, _MixStored


def stored(rng, layers, counts, dim, dtype):
    """Return utterances as they are read: views of a padded block that cannot be written."""
    shift = 10 * rng.normal(size=(layers, 1, dim))
    utterances = [encode((rng.normal(size=(layers, n, dim)) + shift).astype(np.float32), dtype) for n in counts]
    block = pad(utterances)
    block.values.flags.writeable = False
    found = []
    for row, frames in enumerate(utterances):
        found.append(replace(frames, values=block.values[row][:, : frames.values.shape[1]]))
    return found


def reference(weights, utterances, mean, sd, kept):
    """Return the sum in float64, of which the gradient is taken by torch."""
    factors = torch.cat([one.expand(frames.values.shape[1], -1) for frames, one in zip(utterances, kept, strict=True)])
    decoded = torch.from_numpy(np.concatenate([frames.decode() for frames in utterances], axis=1)).double()
    normalised = (decoded - mean.double()[:, None]) / sd.double()[:, None]
    return torch.einsum("l,ltd->td", weights, normalised) * factors


def check(mix, utterances, rng, tolerance=2e-5, device="cpu"):
    layers, dim = len(utterances[0].values), utterances[0].dim
    mean = torch.from_numpy(rng.normal(size=(layers, dim)).astype(np.float32))
    sd = torch.from_numpy(rng.uniform(0.5, 2, (layers, dim)).astype(np.float32))
    weights = torch.from_numpy(rng.dirichlet(np.ones(layers)).astype(np.float32)).to(device).requires_grad_()
    exact_weights = weights.detach().cpu().double().requires_grad_()
    kept = torch.from_numpy(rng.choice([0, 2], (len(utterances), dim)).astype(np.float32))  # as dropout gives
    found = mix.apply(weights, utterances, mean.to(device), sd.to(device), kept.to(device))
    expected = reference(exact_weights, utterances, mean, sd, kept)
    assert found.shape == expected.shape
    size = expected.abs().max()
    assert (found.cpu().double() - expected).abs().max() <= tolerance * (1 + size)
    slopes = torch.from_numpy(rng.normal(size=found.shape).astype(np.float32))
    found.backward(slopes.to(device))
    expected.backward(slopes.double())
    room = tolerance * (1 + size) * slopes.abs().sum()
    assert (weights.grad.cpu().double() - exact_weights.grad).abs().max() <= room
    return found.detach(), weights.grad


@pytest.mark.parametrize(("mix", "device"), [(_MixStored, "cpu"), (_MixOnDevice, "cpu"), (_MixOnDevice, "cuda")])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("dim", [1, 2, 7, 16, 33])
@pytest.mark.filterwarnings("ignore:The given NumPy array is not writable")
def test_the_sum_is_that_of_what_is_decoded(mix, device, dtype, dim):
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("there is no GPU")
    rng = np.random.default_rng(dim)
    check(mix, stored(rng, 4, (9, 1, 30), dim, dtype), rng, device=device)


@pytest.mark.parametrize("dtype", DTYPES)
@settings(max_examples=25)
@given(
    layers=st.integers(1, 5),
    counts=st.lists(st.integers(1, 20), min_size=1, max_size=4),
    dim=st.integers(1, 40),
    seed=st.integers(0, 2**32 - 1),
)
def test_both_versions_agree_on_any_shape(dtype, layers, counts, dim, seed):
    utterances = stored(np.random.default_rng(seed), layers, counts, dim, dtype)
    writable = [replace(frames, values=frames.values.copy()) for frames in utterances]
    (a, slope_a), (b, slope_b) = (
        check(mix, frames, np.random.default_rng(seed))
        for mix, frames in ((_MixStored, utterances), (_MixOnDevice, writable))
    )
    assert torch.allclose(a, b, rtol=1e-5, atol=1e-4)
    assert torch.allclose(slope_a, slope_b, rtol=1e-3, atol=1e-3 * (1 + float(slope_a.abs().max())))


@pytest.mark.parametrize("layers", [slice(None), [2, 0], slice(1, 3)])
def test_layers_that_are_chosen_need_not_lie_together(layers):
    rng = np.random.default_rng(0)
    for dtype in DTYPES:
        whole = encode(rng.normal(size=(4, 12, 5)).astype(np.float32), dtype)
        scale, offset = (None if part is None else part[layers] for part in (whole.scale, whole.offset))
        check(_MixStored, [Frames(whole.values[layers], dtype, 5, scale, offset)], rng)


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        ("float16", [0.0, -0.0, 2.0**-24, -(2.0**-24), 1023 * 2.0**-24, 2.0**-14, 65504.0, -65504.0, 1 / 3]),
        ("bfloat16", [0.0, -0.0, 1e-38, -1e-38, 3.0e38, -3.0e38, 1 / 3]),
        ("float32", [0.0, -0.0, 1e-38, -1e-38, 3.0e38, -3.0e38, 1 / 3]),
    ],
)
def test_smallest_and_largest_values_are_decoded_exactly(dtype, values):
    frames = encode(np.array(values, np.float32)[None, None], dtype)
    one = np.ones((1, len(values)), np.float32)
    assert np.array_equal(frame_sums(frames, one), frames.decode()[:, 0])
    module = LayerSum(1, len(values), learned=False)
    assert np.array_equal(module([frames])[0], frames.decode()[0, 0])


def test_every_float16_is_decoded_exactly():
    bits = np.arange(2**16, dtype=np.uint16).view(np.float16)
    finite = bits[np.isfinite(bits)][None, None]
    frames = Frames(finite, "float16", finite.shape[-1])
    found = frame_sums(frames, np.ones((1, finite.shape[-1]), np.float32))
    assert np.array_equal(found, frames.decode()[:, 0])


def test_weights_are_a_softmax_and_learn_where_there_are_several():
    assert LayerSum(3, 4, learned=True).logits.requires_grad
    assert not LayerSum(3, 4, learned=False).logits.requires_grad
    assert not LayerSum(1, 4, learned=True).logits.requires_grad
    assert LayerSum(4, 2, learned=True).weights().tolist() == [0.25] * 4


def test_a_channel_that_does_not_vary_is_not_blown_up():
    module = LayerSum(1, 2, learned=False)
    module.normalise_by(np.zeros((1, 2), np.float32), np.array([[0.0, 1e-30]], np.float32))
    found = module([encode(np.full((1, 3, 2), 1e-3, np.float32), "float32")])
    assert np.allclose(found, 1, atol=1e-3)


SUMS_OF = """
import sys
import numpy as np
from featurestore.format.codec import encode
from train.numerics import kernels

frames = encode(np.random.default_rng(0).normal(size=(3, 50, 8)).astype(np.float32), sys.argv[1])
sums = kernels.frame_sums(frames, np.ones((50, 8), np.float32))
scale, offset = (1, 0) if frames.scale is None else (frames.scale, 50 * frames.offset)
assert np.allclose(sums * scale + offset, frames.decode().sum(axis=1), atol=1e-3), sys.argv[1]
found = [kernel._run.stats for kernel in (kernels._frame_sums, kernels._frame_sums_int4)]
print(sum(sum(stats.cache_hits.values()) for stats in found), sum(sum(stats.cache_misses.values()) for stats in found))
"""


def test_processes_that_compile_at_once_leave_what_later_ones_load(tmp_path):
    kinds = ["int8", "int4", "float32"]

    def loaded_and_compiled():
        """Return how often each process, of which there is one for each kind, did so."""
        environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
        started = [
            subprocess.Popen([sys.executable, "-c", SUMS_OF, kind], env=environment, stdout=subprocess.PIPE, text=True)
            for kind in kinds
        ]
        printed = [process.communicate()[0].split() for process in started]
        assert [process.returncode for process in started] == [0] * len(kinds)
        return [(int(hits), int(misses)) for hits, misses in printed]

    assert loaded_and_compiled() == [(0, 1)] * len(kinds)
    assert loaded_and_compiled() == [(1, 0)] * len(kinds)
