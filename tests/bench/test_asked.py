import pytest
import torch
from torch import nn

from bench import asked as module
from bench.asked import Asked, shares, stage_bounds
from bench.measure.physics import Peaks
from bench.worker import InvalidError


class Pipe:
    def __init__(self):
        self.unet = nn.Linear(8, 8)
        self.vae = nn.Module()
        self.vae.layer = nn.Linear(8, 8)
        self.vae.decode = lambda z, num_frames: self.vae.layer(z)
        self.tokenizer = None


def test_calls_are_counted_by_shape_and_their_work_once():
    pipe = Pipe()
    asked = Asked(pipe)
    for rows in (2, 2, 3):
        assert pipe.unet(torch.ones(rows, 8)).shape == (rows, 8)
    work = asked.work()
    assert sorted((times, one.flops) for times, one in work["denoise"]) == [(1, 3 * 2 * 64), (2, 2 * 2 * 64)]
    assert "text" not in work
    pipe.unet(torch.ones(1, 8))
    asked.clear()
    assert asked.work() == {"denoise": [], "decode": []}
    assert next(pipe.unet.parameters()).device.type == "cpu"


def test_bounds_add_up_over_calls(monkeypatch):
    pipe = Pipe()
    asked = Asked(pipe)
    for _ in range(5):
        pipe.unet(torch.ones(2, 8))
    best = Peaks({"float32": 1e6}, 1e12, 1e12)
    limits = stage_bounds(asked.work(), best, "float32")
    assert limits["denoise"].ideal == pytest.approx(5 * 2 * 2 * 64 / 1e6)
    assert limits["decode"].ideal == 0


def test_a_share_above_one_is_invalid_unless_the_peaks_were_too_low(monkeypatch):
    pipe = Pipe()
    asked = Asked(pipe)
    pipe.unet(torch.ones(2, 8))
    low, high = Peaks({"float32": 1e3}, 1e12, 1e12), Peaks({"float32": 1e6}, 1e12, 1e12)
    seconds = {"denoise": 256 / 1e5, "decode": 1.0}
    monkeypatch.setattr(module, "peaks", lambda device, again: high if again else low)
    assert shares(asked.work(), seconds, device="cpu", dtype="float32") == {"denoise": pytest.approx(0.1)}
    monkeypatch.setattr(module, "peaks", lambda device, again: low)
    with pytest.raises(InvalidError, match=r"denoise took 0\.00256 s, at the measured peaks .* it takes 0\.256 s"):
        shares(asked.work(), seconds, device="cpu", dtype="float32")
    assert shares({}, {}, device="cpu", dtype="float32") == {}
