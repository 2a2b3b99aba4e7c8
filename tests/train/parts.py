"""What the contracts of all kinds of parts have in common."""

import torch

from train.numerics.sequences import Sequences

DIM, LENGTHS = 16, (9, 4, 1)


def mask_of(lengths):
    return torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]


def frames(mask, dim, seed=0):
    return torch.randn(*mask.shape, dim, generator=torch.Generator().manual_seed(seed))


def garbage(values, mask):
    """Return the values with something else in the padding."""
    return torch.where(mask[..., None], values, torch.full_like(values, 17.0))


def check_learns(module, found):
    """What is learned has a finite gradient, and is the same when it has been saved and loaded."""
    learned = [parameter for parameter in module.parameters() if parameter.requires_grad]
    if learned:
        found.square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in learned)


def check_saves(build, module, *inputs):
    """Another module with the same state gives the same, and so does the same module twice."""
    module.eval()
    other = build().eval()
    other.load_state_dict(module.state_dict())
    first, same, loaded = (values_of(one(*inputs)) for one in (module, module, other))
    assert torch.equal(first, same)
    assert torch.equal(first, loaded)


def check_half(module, *inputs):
    """In half precision it gives nearly the same, and gradients that are finite."""
    module.eval()
    module.zero_grad()
    expected = values_of(module(*inputs)).detach()
    with torch.autocast("cpu", torch.bfloat16):
        found = values_of(module(*inputs))
        if found.requires_grad:
            found.float().square().mean().backward()
    error = (found.detach().float() - expected).norm() / expected.norm().clamp(min=1e-6)
    assert error < 0.05, error
    assert all(one.grad is None or one.grad.isfinite().all() for one in module.parameters())


def values_of(found):
    return found.values if isinstance(found, Sequences) else found
