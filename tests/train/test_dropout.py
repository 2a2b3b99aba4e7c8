"""Dropout of channels: factors in the layer sum, the same in all frames of an utterance."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from featurestore.format.codec import encode
from tests.featurestore.toy import DTYPES
from train.config import TrainConfig
from train.examples.examples import load_examples
from train.models.training import Training
from train.numerics.layers import LayerSum, _MixOnDevice, _MixStored
from train.numerics.sequences import pad

LENGTHS = (3, 1, 8)


@pytest.mark.parametrize("mix", [_MixStored, _MixOnDevice])
@pytest.mark.parametrize("dtype", DTYPES)
def test_factors_multiply_the_sum_and_its_gradient(dtype, mix):
    rng = np.random.default_rng(0)
    utterances = [encode(rng.normal(2, 3, (4, length, 5)).astype(np.float32), dtype) for length in LENGTHS]
    mean, sd = (torch.rand(4, 5, generator=torch.Generator().manual_seed(seed)) + 0.5 for seed in (0, 1))
    kept = torch.tensor([[0.0, 2, 2, 0, 2], [2, 0, 0, 2, 1], [2, 2, 2, 2, 0.5]])
    factors, gradient = kept.repeat_interleave(torch.tensor(LENGTHS), 0), torch.from_numpy(rng.normal(size=(12, 5)))
    found = []
    for arguments, factor in (((kept,), 1.0), ((), factors)):
        weights = torch.tensor([0.1, 0.2, 0.3, 0.4], requires_grad=True)
        out = mix.apply(weights, utterances, mean, sd, *arguments) * factor
        out.backward(gradient.float())
        found.append((out.detach(), weights.grad))
    for with_factors, after in zip(*found, strict=True):
        torch.testing.assert_close(with_factors, after, rtol=1e-5, atol=1e-4)


def test_as_many_channels_are_left_out_as_asked_for(store):
    config = TrainConfig.model_validate({"streams": {"speech": {"dropout": 0.25}}, "fusion": {"name": "none"}})
    examples = load_examples(store, config)
    training = Training(examples, config, examples.names, [], 1, 0)
    stream, batch = training.model.streams[0], examples.batch(np.arange(64)).streams["speech"]
    whole = stream.front(batch.frames)
    kept = stream.train()._kept(batch)
    assert sorted(kept.unique().tolist()) == [0, pytest.approx(1 / 0.75)]
    assert float((kept == 0).float().mean()) == pytest.approx(0.25, abs=0.05)
    expected = whole * kept.repeat_interleave(torch.tensor(batch.lengths), 0)
    torch.testing.assert_close(stream.front(batch.frames, kept), expected, rtol=1e-5, atol=1e-5)
    assert stream.eval()._kept(batch) is None


def test_frames_alone_are_embedded_as_padded_ones_are(store):
    config = TrainConfig.model_validate({"fusion": {"name": "none"}})
    examples = load_examples(store, config)
    stream = Training(examples, config, examples.names, [], 1, 0).model.streams[0].eval()
    batch = examples.batch(np.arange(8)).streams["speech"]
    found = stream(batch)
    values, mask = pad(stream.front(batch.frames), torch.tensor(batch.lengths))
    assert torch.equal(found.mask, mask)
    torch.testing.assert_close(found.values[mask], stream.embed(values, mask)[mask])
    assert not found.values[~mask].any()


def test_a_sum_without_factors_is_one_with_ones(store):
    module = LayerSum(2, 3, learned=True)
    frames = [encode(np.random.default_rng(0).normal(size=(2, 4, 3)).astype(np.float32), "int8")]
    assert torch.equal(module(frames), module(frames, torch.ones(1, 3)))
