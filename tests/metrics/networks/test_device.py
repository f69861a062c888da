"""Names of devices: auto finds a GPU where there is one, and what torch cannot use is refused."""

import pytest
import torch

from metrics.networks.device import resolve_device


@pytest.mark.parametrize(("gpu", "expected"), [(True, "cuda"), (False, "cpu")])
def test_auto_is_a_gpu_where_torch_has_one(monkeypatch, gpu, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    assert resolve_device("auto") == expected


def test_a_device_that_is_there_is_itself():
    assert resolve_device("cpu") == "cpu"


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "meta", "", "cpu:x", "vulkan"])
def test_a_device_that_torch_cannot_use_is_refused(name):
    with pytest.raises(ValueError, match=f"--device is auto, cpu or a GPU .* got '{name}', try auto"):
        resolve_device(name)
