"""The convolutions of a CPU give what the modules of transformers give, at every length."""

import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st

from extract.encoders.convolution import FourierConvolution, FrontEnd
from tests.extract.samples import PRE_NORM, SMALL, noise


def relative_error(found, expected):
    assert found.shape == expected.shape
    return float((found - expected).norm() / expected.norm())


@given(st.integers(1, 300), st.sampled_from([2, 5, 16, 128]), st.sampled_from([1, 3]), st.booleans())
def test_the_fourier_transform_convolves(frames, kernel, groups, biased):
    torch.manual_seed(frames)
    module = torch.nn.Conv1d(6, 12, kernel, padding=kernel // 2, groups=groups, bias=biased)
    signal = torch.randn(1, 6, frames)
    with torch.inference_mode():
        assert relative_error(FourierConvolution(module)(signal), module(signal)) < 2e-6


@pytest.mark.parametrize("norm", ["group", "layer"])
@pytest.mark.parametrize("frames", [1, 2, 99, 100, 101, 250])
def test_the_front_end_in_parts_is_the_whole(norm, frames):
    torch.manual_seed(0)
    model = transformers.HubertModel(transformers.HubertConfig(**SMALL, **(PRE_NORM if norm == "layer" else {}))).eval()
    wave = torch.from_numpy(noise(400 + 320 * (frames - 1) + 319))[None] + 0.05  # an offset, as some recordings have
    with torch.inference_mode():
        expected = model.feature_extractor.double()(wave.double())
        found = FrontEnd(model.feature_extractor.float())(wave)
    assert found.shape[-1] == frames
    assert relative_error(found, expected) < 5e-6
