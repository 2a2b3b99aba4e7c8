"""Contracts: every part of each kind is tested as soon as its file is there."""

import pytest
import torch

from featurestore.errors import SerError
from train.embeddings import Embedding
from train.fusions import Fusion
from train.heads import Head
from train.losses import Loss
from train.poolings import Pooling
from train.poolings.statistics import SMALLEST_VARIANCE

DIM, LENGTHS = 16, (9, 4, 1)


@pytest.fixture
def mask():
    return torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]


def frames(mask, dim, seed=0):
    torch.manual_seed(seed)
    return torch.randn(*mask.shape, dim)


def garbage(values, mask):
    """Return the values with something else in the padding."""
    return torch.where(mask[..., None], values, torch.full_like(values, 17.0))


@pytest.mark.parametrize("name", Embedding.names())
def test_embedding(name, mask):
    module = Embedding.kind(name)().build(DIM)
    pitch = frames(mask, 2)
    embedded = module(pitch, mask)
    assert embedded.shape == (*mask.shape, DIM)
    assert torch.allclose(embedded[mask], module(garbage(pitch, mask), mask)[mask], atol=1e-6)


@pytest.mark.parametrize("embedding", Embedding.names())
@pytest.mark.parametrize("name", Fusion.names())
def test_fusion(name, embedding, mask):
    kind = Fusion.kind(name)
    fusion = kind.model_validate({"embedding": embedding} if kind.uses_pitch else {})
    module = fusion.build(DIM)
    audio, pitch = frames(mask, DIM, 1), frames(mask, 2, 2)
    fused = module(audio, pitch, mask)
    assert fused.shape == (*mask.shape, module.dim)
    polluted = module(garbage(audio, mask), garbage(pitch, mask), mask)
    assert torch.allclose(fused[mask], polluted[mask], atol=1e-5)
    alone = module(audio[1:2, :4], pitch[1:2, :4], mask[1:2, :4])
    assert torch.allclose(fused[1, :4], alone[0], atol=1e-5)
    other = module(audio, pitch + 1, mask)
    assert torch.equal(fused[mask], other[mask]) != kind.uses_pitch


def test_plain_attention_is_that_of_system_0(mask):
    """Without the residual: the pitch only chooses which audio is heard, so equal frames give equal answers."""
    module = Fusion.kind("attention")(residual=False).build(DIM)
    audio = frames(mask, DIM)[:, :1].expand(-1, mask.shape[1], -1)
    fused = module(audio, frames(mask, 2), mask)
    assert torch.allclose(fused[0], fused[0, :1].expand_as(fused[0]), atol=1e-5)


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(SerError, match=r"heads \(5\) must divide .* \(16\)"):
        Fusion.kind("attention")(heads=5).build(DIM)


@pytest.mark.parametrize("name", Pooling.names())
def test_pooling(name, mask):
    module = Pooling.kind(name)().build(DIM)
    values = frames(mask, DIM)
    pooled = module(values, mask)
    assert pooled.shape == (len(LENGTHS), module.dim)
    assert torch.allclose(pooled, module(garbage(values, mask), mask), atol=1e-4)
    pooled.sum().backward() if pooled.requires_grad else None


def test_poolings_by_hand(mask):
    values = frames(mask, DIM)
    mean = values[1, :4].mean(dim=0)
    assert torch.allclose(Pooling.kind("mean")().build(DIM)(values, mask)[1], mean, atol=1e-6)
    assert torch.allclose(Pooling.kind("attention")().build(DIM)(values, mask)[1], mean, atol=1e-6)
    both = Pooling.kind("statistics")().build(DIM)(values, mask)
    assert torch.allclose(both[1, DIM:], values[1, :4].std(dim=0, correction=0), atol=1e-5)
    assert torch.allclose(both[2, DIM:], torch.full((DIM,), SMALLEST_VARIANCE**0.5), atol=1e-6)


@pytest.mark.parametrize("name", Head.names())
def test_head(name):
    assert Head.kind(name)().build(DIM, 3)(torch.randn(5, DIM)).shape == (5, 3)


@pytest.mark.parametrize("name", Loss.names())
def test_loss_is_lowest_for_the_truth(name):
    loss = Loss.kind(name)()
    torch.manual_seed(0)
    if loss.task == "regression":
        true = torch.rand(8, 2)
        right, wrong = true.clone(), torch.rand(8, 2, requires_grad=True)
    else:
        true = torch.arange(8) % 3
        right, wrong = 20 * torch.nn.functional.one_hot(true).float(), torch.rand(8, 3, requires_grad=True)
    assert loss(right, true) == pytest.approx(0, abs=1e-6)
    assert loss(wrong, true) > 0.01
    loss(wrong, true).backward()
    assert torch.isfinite(wrong.grad).all()
