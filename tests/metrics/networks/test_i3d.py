"""I3D equals the published ports in every form: as published, folded, channels-last, from every file."""

import itertools

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from metrics.evaluation.cache import MemoryCache
from metrics.evaluation.extract import embed_arrays
from metrics.networks.features import FeatureNetwork, PreparingNetwork, extract
from metrics.networks.i3d import I3D, SamePool, Unit, build_i3d, constant_clips, i3d_shapes, load_i3d, same_padding
from metrics.networks.no_tf32 import full_float32
from metrics.protocols import FVD
from metrics.weights import WeightsError
from metrics.weights.published import CHECKSUMS
from tests.metrics.goldens import golden
from tests.metrics.recipes import arrays, i3d_clips, sample
from tests.metrics.weight_files import i3d_weights, state_dict, write_checkpoint

EPSILON = {"videogpt": 1e-5, "piergiaj": 1e-3, "hassony2": 1e-3}


@pytest.fixture(scope="module")
def weights():
    return i3d_weights()


@pytest.fixture(scope="module")
def saved(weights, tmp_path_factory):
    path = tmp_path_factory.mktemp("i3d") / "i3d.safetensors"
    save_file(weights, path)
    return path


@pytest.fixture(scope="module")
def thin():
    """An eighth of the channels, a sixty-fourth of the work: enough for what does not depend on the weights."""
    return i3d_weights(thin=8)


@pytest.fixture(scope="module")
def thin_file(thin, tmp_path_factory):
    path = tmp_path_factory.mktemp("thin") / "i3d.safetensors"
    save_file(thin, path)
    return path


def clips(frames: int, dtype=torch.float32) -> torch.Tensor:
    return 2 * torch.from_numpy(i3d_clips(frames)).permute(0, 4, 1, 2, 3).to(dtype) / 255 - 1


# Against the goldens


def test_keys_are_those_in_use():
    with torch.device("meta"):
        state = I3D().state_dict()
    assert {name: list(tensor.shape) for name, tensor in state.items()} == golden("i3d_meta.json")["state_dict"]


def test_logits_in_float64(weights):
    """Of one clip and one port; `test_all_logits_in_both_precisions` has them all."""
    golden("i3d_meta.json")
    network = build_i3d(weights, epsilon=EPSILON["videogpt"]).double()
    want = arrays("i3d_logits.npz")["gainsqrt2/videogpt/T10"][:1]
    with torch.inference_mode():
        np.testing.assert_allclose(network(clips(10, torch.float64)[:1]).numpy(), want, rtol=0, atol=1e-9)


def test_logits_in_float32_folded_and_channels_last(weights):
    golden("i3d_meta.json")
    network = build_i3d(weights, epsilon=EPSILON["hassony2"])
    network.fold()
    network.to(memory_format=torch.channels_last_3d)
    want = arrays("i3d_logits.npz")["gainsqrt2/hassony2/T16"]
    with torch.inference_mode():
        got = network(clips(16).contiguous(memory_format=torch.channels_last_3d)).numpy()
    np.testing.assert_allclose(got, want, rtol=0, atol=2e-5)


def test_features_of_a_protocol_are_the_goldens(saved):
    """Epsilon comes of the row; at 224 x 224 no row resizes. A clip for each row; a slow test has all for all."""
    golden("i3d_meta.json")
    logits = arrays("i3d_logits.npz")
    for one, (row, peer) in enumerate((("google", "piergiaj"), ("tats", "videogpt"))):
        clip = slice(one, one + 1)
        network = load_i3d(saved, row)
        assert isinstance(network, FeatureNetwork)
        features = extract(network, i3d_clips(10)[clip], batch_size=1)
        np.testing.assert_allclose(features.embedding, logits[f"gainsqrt2/{peer}/T10"][clip], rtol=0, atol=2e-5)
        assert features.logits["kinetics"] is not None


@pytest.mark.slow
@pytest.mark.parametrize("gain", ["gain1", "gainsqrt2"])
@pytest.mark.parametrize(("peer", "frames"), [*itertools.product(EPSILON, (10, 16))])
def test_all_logits_in_both_precisions(gain, peer, frames):
    golden("i3d_meta.json")
    tensors = i3d_weights(1 if gain == "gain1" else 2**0.5)
    want = arrays("i3d_logits.npz")[f"{gain}/{peer}/T{frames}"]
    with torch.inference_mode():
        exact = build_i3d(tensors, epsilon=EPSILON[peer]).double()(clips(frames, torch.float64))
        network = build_i3d(tensors, epsilon=EPSILON[peer])
        network.fold()
        fast = network.to(memory_format=torch.channels_last_3d)(clips(frames))
    np.testing.assert_allclose(exact.numpy(), want, rtol=0, atol=1e-9)
    np.testing.assert_allclose(fast.numpy(), want, rtol=0, atol=1e-6 if gain == "gain1" else 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("gain", ["gain1", "gainsqrt2"])
def test_every_endpoint(gain):
    ends = golden("i3d_meta.json")["endpoints"][f"{gain}/T16/clip1"]
    network = build_i3d(i3d_weights(1 if gain == "gain1" else 2**0.5), epsilon=1e-5).double()
    x = clips(16, torch.float64)[1:]
    count = 0
    with torch.inference_mode():
        for name, layer in network.named_children():
            if name == "logits":
                break
            x = layer(x)
            end, count = ends[name], count + 1
            assert list(x.shape) == end["shape"]
            np.testing.assert_allclose(sample(x.numpy(), 16), end["samples"], rtol=0, atol=1e-9)
            for figure in ("mean", "min", "max"):
                assert float(getattr(x, figure)()) == pytest.approx(end[figure], abs=1e-9)
    assert count == 16


# Padding


@pytest.mark.parametrize("kernel", [1, 2, 3, 7])
@pytest.mark.parametrize("stride", [1, 2])
def test_same_padding_makes_the_ceiling(kernel, stride):
    for size in range(max(1, kernel - 1), 40):
        before, after = same_padding(size, kernel, stride)
        assert (size + before + after - kernel) // stride + 1 == -(-size // stride)
        assert 0 <= after - before <= 1


@pytest.mark.parametrize(
    ("kernel", "stride"),
    [((1, 3, 3), (1, 2, 2)), ((3, 3, 3), (2, 2, 2)), ((2, 2, 2), (2, 2, 2)), ((3, 3, 3), (1, 1, 1))],
)
def test_pools_without_copies_equal_pools_of_padded_zeros(kernel, stride):
    generator = torch.Generator().manual_seed(0)
    for shape in itertools.product((1, 2, 3, 4, 5), (6, 7), (7, 8)):
        x = torch.rand(2, 3, *shape, generator=generator).relu()
        pads = [same_padding(*axis) for axis in zip(shape, kernel, stride, strict=True)]
        want = F.max_pool3d(F.pad(x, [p for pad in reversed(pads) for p in pad]), kernel, stride)
        for memory in (torch.contiguous_format, torch.channels_last_3d):
            assert torch.equal(SamePool(kernel, stride)(x.contiguous(memory_format=memory)), want)


def test_a_convolution_of_an_even_and_of_an_odd_side():
    unit = Unit(2, 3, 7, 2, norm=False)
    for sides in ((8, 9, 10), (9, 9, 9), (16, 12, 11)):
        x = torch.rand(1, 2, *sides)
        pads = [same_padding(side, 7, 2) for side in sides]
        want = F.conv3d(
            F.pad(x, [p for pad in reversed(pads) for p in pad]), unit.conv3d.weight, unit.conv3d.bias, stride=2
        )
        torch.testing.assert_close(unit(x), want)


def padded(x, kernel, stride):
    """TensorFlow's "SAME" by its definition: as many zeros as ceil(size / stride) windows reach beyond the axis."""
    pads = []
    for size, k, s in reversed(list(zip(x.shape[2:], kernel, stride, strict=True))):
        beyond = max(0, (-(-size // s) - 1) * s + k - size)
        pads += [beyond // 2, beyond - beyond // 2]
    return F.pad(x, pads)


def plainly(layer, x):
    """A layer by copies of zeros and operators without padding, a norm by its formula."""
    if isinstance(layer, SamePool):
        return F.max_pool3d(padded(x, layer.kernel, layer.stride), layer.kernel, layer.stride)
    if isinstance(layer, Unit):
        conv = layer.conv3d
        x = F.conv3d(padded(x, conv.kernel_size, conv.stride), conv.weight, conv.bias, conv.stride)
        if layer.bn is None:
            return x
        scale = layer.bn.weight / (layer.bn.running_var + layer.bn.eps).sqrt()
        shift = layer.bn.bias - layer.bn.running_mean * scale
        return (x * scale.view(-1, 1, 1, 1) + shift.view(-1, 1, 1, 1)).relu()
    return torch.cat(
        [
            plainly(layer.b0, x),
            plainly(layer.b1b, plainly(layer.b1a, x)),
            plainly(layer.b2b, plainly(layer.b2a, x)),
            plainly(layer.b3b, plainly(layer.b3a, x)),
        ],
        dim=1,
    )


@pytest.mark.parametrize(("frames", "steps"), [(17, 2), (25, 3)])
def test_clips_of_more_than_16_frames_equal_an_explicitly_padded_network(thin, frames, steps):
    """Odd lengths pad unevenly in every stage, and logits are averaged over more than one step."""
    network = build_i3d(thin, epsilon=1e-3, thin=8)
    x = clips(32)[1:, :, :frames]
    with torch.inference_mode():
        plain = x
        for name, layer in network.named_children():
            if name != "logits":
                plain = plainly(layer, plain)
        assert plain.shape[2] == steps + 1
        each = [plainly(network.logits, plain[:, :, t : t + 2].mean(dim=(2, 3, 4), keepdim=True)) for t in range(steps)]
        want = torch.stack(each).mean(dim=0).flatten(1)
        network.fold()
        got = network.to(memory_format=torch.channels_last_3d)(x)
        torch.testing.assert_close(got, want, rtol=0, atol=2e-5)
        assert (network(x[:, :, :16]) - got).abs().max() > 0.01


def test_folding_a_norm_changes_the_last_digits_only():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        unit = Unit(4, 5, 3).eval().requires_grad_(False)
        unit.bn.running_mean.normal_()
        unit.bn.running_var.uniform_(0.5, 2)
        unit.bn.weight.normal_()
        unit.bn.bias.normal_()
        x = torch.randn(2, 4, 3, 6, 6)
    before = unit(x)
    unit.fold()
    assert isinstance(unit.bn, torch.nn.Identity)
    torch.testing.assert_close(unit(x), before, rtol=1e-5, atol=1e-6)


# Lengths, sizes, batches


def test_batches_and_files_change_nothing(thin_file, thin, tmp_path):
    videos = np.random.default_rng(0).integers(0, 256, (3, 9, 30, 40, 3), dtype=np.uint8)
    one, three = load_i3d(thin_file, batch=1, thin=8), load_i3d(thin_file, batch=3, thin=8)
    rows = one.embed(videos).embedding
    assert rows.shape == (3, 400)
    assert isinstance(three, PreparingNetwork)
    prepared = embed_arrays(iter(videos), three, batch_size=2).features.embedding
    np.testing.assert_allclose(prepared, rows, atol=2e-5)
    np.testing.assert_allclose(three.embed(videos).embedding, rows, atol=2e-5)
    torch.save(state_dict(thin), tmp_path / "i3d_pretrained_400.pt")
    again = load_i3d(tmp_path, thin=8)
    assert again.digest == one.digest
    np.testing.assert_array_equal(load_i3d(tmp_path, batch=1, thin=8).embed(videos[:1]).embedding, rows[:1])


def test_a_compiled_network_sees_full_batches_only(thin_file, monkeypatch):
    """Whatever number of videos comes; compiling itself is left out, it takes a minute."""
    batches = []

    def compiled(network, **_):
        network.register_forward_pre_hook(lambda _, args: batches.append(args[0].shape[0]))
        return network

    monkeypatch.setattr(torch, "compile", compiled)
    videos = np.random.default_rng(0).integers(0, 256, (3, 9, 24, 24, 3), dtype=np.uint8)
    rows = load_i3d(thin_file, batch=2, compiled=True, thin=8).embed(videos).embedding
    assert batches == [2, 2]
    np.testing.assert_allclose(rows, load_i3d(thin_file, batch=2, thin=8).embed(videos).embedding, atol=2e-5)


@pytest.mark.gpu
@pytest.mark.parametrize("compiled", [False, True])
def test_a_gpu_says_what_a_cpu_says(saved, compiled):
    videos = np.random.default_rng(0).integers(0, 256, (3, 16, 60, 80, 3), dtype=np.uint8)
    rows = load_i3d(saved, batch=2).embed(videos).embedding
    there = load_i3d(saved, batch=2, device="cuda", compiled=compiled).embed(videos).embedding
    np.testing.assert_allclose(there, rows, atol=1e-4)


@pytest.mark.slow
def test_compiling_changes_the_last_digits_only(saved):
    videos = np.random.default_rng(0).integers(0, 256, (1, 9, 60, 80, 3), dtype=np.uint8)
    rows = load_i3d(saved, batch=1).embed(videos).embedding
    np.testing.assert_allclose(load_i3d(saved, batch=1, compiled=True).embed(videos).embedding, rows, atol=2e-5)


def test_eight_frames_are_too_few(thin_file):
    network = load_i3d(thin_file, thin=8)
    with pytest.raises(ValueError, match="at least 9 frames: got 8"):
        network.embed(np.zeros((1, 8, 224, 224, 3), np.uint8))
    with pytest.raises(ValueError, match="at least 10 frames: got 9"):
        load_i3d(thin_file, "common", thin=8).embed(np.zeros((1, 9, 224, 224, 3), np.uint8))


def test_rows_differ_in_epsilon_and_in_resize(thin_file):
    videos = np.random.default_rng(1).integers(0, 256, (1, 9, 40, 60, 3), dtype=np.uint8)
    names = ("google", "styleganv", "cdfvd")
    rows = {name: load_i3d(thin_file, name, thin=8).embed(videos).embedding for name in names}
    assert np.abs(rows["google"] - rows["styleganv"]).max() > 0.02
    assert 1e-4 < np.abs(rows["styleganv"] - rows["cdfvd"]).max() < 0.5
    assert FVD["styleganv"].resample == FVD["cdfvd"].resample


def test_constant_clips_see_epsilon(thin):
    near = constant_clips(build_i3d(thin, epsilon=1e-3, thin=8), (9,))
    far = constant_clips(build_i3d(thin, epsilon=1e-5, thin=8), (9,))
    assert near.keys() == {9}
    assert abs(near[9] / far[9] - 1) > 1e-4


def test_what_is_refused(saved, weights, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="no FVD protocol 'fvd': it is one of clean, google"):
        load_i3d(saved, "fvd")
    with pytest.raises(ValueError, match="at least one clip: got batch=0"):
        load_i3d(saved, batch=0)
    index = write_checkpoint(tmp_path / "model.ckpt", weights)
    of_this = {which: dict(table) for which, table in CHECKSUMS.items()}
    from metrics.weights.published import _checksum

    ours = {name: _checksum(tensor) for name, tensor in weights.items() if name in of_this["rgb_scratch"]}
    monkeypatch.setitem(CHECKSUMS, "rgb_imagenet", ours)
    with pytest.raises(WeightsError, match=r"it is rgb_imagenet, Kinetics-400 after ImageNet.*FVD wants rgb_scratch"):
        load_i3d(index)
    monkeypatch.setitem(CHECKSUMS, "rgb_imagenet", {**ours, "logits.conv3d.bias": "00000000"})
    with pytest.raises(WeightsError, match=r"it is rgb_imagenet, but logits\.conv3d\.bias is not as published"):
        load_i3d(index)
    monkeypatch.setitem(CHECKSUMS, "rgb_scratch", ours)
    assert load_i3d(index).name == "i3d:clean:rgb_scratch"


@pytest.mark.precision
@pytest.mark.parametrize(("precision", "most"), [("bfloat16", 0.1), ("float16", 0.01)])
def test_reduced_precision_runs_strays_and_stands_in_the_name(thin_file, precision, most):
    """On a CPU as well, where PyTorch pools no halves."""
    videos = i3d_clips(9)[:1, :, :64, :64]
    full, reduced = load_i3d(thin_file, "google", thin=8), load_i3d(thin_file, "google", precision=precision, thin=8)
    assert (full.name, reduced.name) == ("i3d:google:unrecognised", f"i3d:google:unrecognised:{precision}")
    rows, strayed = full.embed(videos).embedding, reduced.embed(videos).embedding
    assert strayed.dtype == np.float32
    assert most / 100 < np.abs(strayed - rows).max() / np.abs(rows).max() < most


def test_float64_and_float32_have_keys_of_their_own_in_a_cache(thin_file):
    videos, cache = i3d_clips(9)[:1, :, :64, :64], MemoryCache()
    single = embed_arrays(iter(videos), load_i3d(thin_file, thin=8), cache=cache)
    double = embed_arrays(iter(videos), load_i3d(thin_file, precision="float64", thin=8), cache=cache)
    assert (single.features.embedding.dtype, double.features.embedding.dtype) == (np.float32, np.float64)
    assert double.kept == 0


def test_full_float32_is_asked_for_while_it_runs_and_only_then():
    convolutions = torch.backends.cudnn.conv
    before = convolutions.fp32_precision
    with full_float32():
        assert convolutions.fp32_precision == torch.backends.cuda.matmul.fp32_precision == "ieee"
    assert convolutions.fp32_precision == before


def test_shapes_know_no_counters():
    assert len(i3d_shapes()) == 287
    assert not any("num_batches" in name for name in i3d_shapes())
