import pytest
import torch
from torch import nn

from bench.hardware import network_calls as module
from bench.hardware.network_calls import CallRecorder, roofline_shares, stage_bounds
from bench.hardware.roofline import Peaks, Probe
from bench.results.records import InvalidError


class Pipe:
    def __init__(self):
        self.unet = nn.Linear(8, 8)
        self.vae = nn.Module()
        self.vae.layer = nn.Linear(8, 8)
        self.vae.decode = lambda z, num_frames: self.vae.layer(z)
        self.tokenizer = None


def test_calls_are_counted_by_shape_and_their_work_once():
    pipe = Pipe()
    asked = CallRecorder(pipe)
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
    asked = CallRecorder(pipe)
    for _ in range(5):
        pipe.unet(torch.ones(2, 8))
    best = Peaks({"float32": 1e6}, 1e12, 1e12)
    limits = stage_bounds(asked.work(), best, "float32")
    assert limits["denoise"].ideal == pytest.approx(5 * 2 * 2 * 64 / 1e6)
    assert limits["decode"].ideal == 0


SECONDS = {"denoise": 256 / 1e5, "decode": 1.0}
LOW, HIGH = Peaks({"float32": 1e3}, 1e12, 1e12), Peaks({"float32": 1e6}, 1e12, 1e12)


@pytest.fixture
def peaks(monkeypatch):
    """Set the peaks that are measured at first, once more, and after what operators reach was seen."""

    def are(first, second, lifted):
        monkeypatch.setattr(module, "peaks", lambda device, again=False: second if again else first)
        monkeypatch.setattr(module, "raised", lambda device, seen: lifted(seen) if callable(lifted) else lifted)

    return are


@pytest.fixture
def pipe():
    return Pipe()


@pytest.fixture
def asked(pipe):
    asked = CallRecorder(pipe)
    pipe.unet(torch.ones(2, 8))
    return asked


def share(asked, pipe, seconds=SECONDS, device="cpu", devices=None):
    make = lambda: pipe.unet(torch.ones(2, 8))  # noqa: E731
    return roofline_shares(asked, seconds, device=device, dtype="float32", batches=1, make=make, devices=devices)


def test_peaks_that_were_too_low_are_measured_once_more(asked, pipe, peaks):
    peaks(LOW, HIGH, LOW)
    assert share(asked, pipe) == ({"denoise": pytest.approx(0.1)}, {})


def test_a_product_that_is_slow_at_its_own_shapes_is_no_bound(asked, pipe, peaks):
    """A fake machine: its float32 products give 1 kFLOP/s, the layer of the cell runs at what it really reaches."""
    peaks(LOW, LOW, lambda seen: Peaks({"float32": max(1e3, seen.flops["float32"])}, 1e12, 1e12))
    seconds = {"denoise": 0.1, "decode": 1.0}
    shares, doubted = share(asked, pipe, seconds)
    assert doubted == {}
    assert 0 < shares["denoise"] < 1


def test_a_stage_that_computes_everything_is_never_invalid_on_a_cpu(asked, pipe, peaks):
    peaks(LOW, LOW, LOW)
    shares, doubted = share(asked, pipe)
    assert shares == {}
    assert doubted["denoise"].startswith("it took 0.00256 s, computed all its FLOPs, and takes 0.256 s at the peaks")


def test_a_clock_that_did_not_wait_for_a_gpu_is_invalid(asked, pipe, peaks, monkeypatch):
    peaks(LOW, LOW, LOW)
    monkeypatch.setattr(module, "fastest", lambda call, device, patience: 1.0)
    with pytest.raises(
        InvalidError, match=r"denoise took 0\.00256 s, its own operators .* 0\.256 s: the clock did not"
    ):
        share(asked, pipe, device="cuda")


def halved(pipe):
    """What was asked of a network that does half of what its callers ask for."""
    forward = pipe.unet.forward
    pipe.unet.forward = lambda x: torch.cat([forward(x[:1]), torch.zeros(1, 8)])
    asked = CallRecorder(pipe)
    pipe.unet(torch.ones(2, 8))
    return asked


def test_arithmetic_that_was_left_out_is_invalid(pipe, peaks):
    peaks(LOW, LOW, HIGH)
    with pytest.raises(InvalidError, match=r"a batch computes 1\.28e-07 GFLOP of the 2\.56e-07 that its calls ask for"):
        share(halved(pipe), pipe)


def test_what_another_device_does_is_not_left_out(pipe, peaks):
    peaks(LOW, LOW, HIGH)
    assert share(halved(pipe), pipe, devices={"denoise": 2}) == ({"denoise": pytest.approx(0.05)}, {})


def test_nothing_counted_has_no_share(peaks):
    peaks(LOW, LOW, LOW)
    nothing = CallRecorder(type("Pipe", (), {})())
    assert roofline_shares(nothing, {}, device="cpu", dtype="float32", batches=1, make=lambda: None) == ({}, {})


def test_a_probe_counts_by_stage_and_times_each_shape_once():
    timed = []
    probe = Probe(lambda: "denoise", lambda call: timed.append(call()) or 1e-3)
    layer = nn.Linear(8, 4, bias=False)
    probe.run(lambda: [layer(torch.ones(3, 8)) for _ in range(5)])
    assert probe.flops == {"denoise": 5 * 2 * 3 * 8 * 4}
    assert len(timed) == 1
    assert probe.rates.flops == {"float32": pytest.approx(2 * 3 * 8 * 4 / 1e-3)}
