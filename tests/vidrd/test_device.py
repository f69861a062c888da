import pytest
import torch

from vidrd.device import resolve_device


def test_auto_is_the_gpu_where_there_is_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve_device("auto") == "cuda"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto") == "cpu"


def test_devices_that_are_there_keep_their_names(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [resolve_device(name) for name in ("cpu", "cuda", "cuda:1")] == ["cpu", "cuda", "cuda:1"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nope", "--device is auto, cpu, cuda, cuda:1, ...: got 'nope'"),
        ("meta", "got 'meta'"),
        ("", "got ''"),
        ("cuda:2", "this machine has 2 CUDA devices that PyTorch can use: got cuda:2"),
    ],
)
def test_devices_that_are_not_there_are_refused(monkeypatch, name, message):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ValueError, match=message.replace("(", "\\(")):
        resolve_device(name)
