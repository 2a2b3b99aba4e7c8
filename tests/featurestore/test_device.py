"""Devices that cannot be used; those that torch itself refuses are tested with the trainer."""

from types import SimpleNamespace

import pytest

from featurestore.shared.device import find_device
from featurestore.shared.errors import SerError


def test_a_gpu_whose_memory_other_processes_have():
    def zeros(size, device):
        raise RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be reported later")

    torch = SimpleNamespace(zeros=zeros, cuda=SimpleNamespace(is_available=lambda: True))
    with pytest.raises(SerError, match="device=cuda cannot be used: CUDA error: out of memory; use fewer --workers"):
        find_device(torch, None)
