"""Frames as published code resizes, crops and stores them."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from metrics.protocols import CDFVD, FVD, IS, STYLEGANV, STYLEGANV_LOSSLESS, TATS, Resample
from metrics.videos.preprocess import c3d_input, crop_plan, i3d_input, quantise, resize, store, through_jpeg
from tests.metrics.goldens import golden
from tests.metrics.recipes import arrays, c3d_clips, c3d_mean, frames_to_resize, sample

SIZES = ["240x320", "128x128", "256x256"]
# golden name, row, tolerance on [-1, 1]
INPUTS = [
    ("videogpt", "videogpt", 2e-6),
    ("digan", "videogpt", 2e-6),
    ("common_metrics_styleganv", "common", 2e-6),
    ("common_metrics_videogpt", "common", 2e-6),
    ("cdfvd", "cdfvd", 2e-6),
    ("tats", "tats", 2e-6),
    ("google_tf1", "google", 1e-4),
]
LOADERS = [("cdfvd", CDFVD), ("tats", TATS)]


def frames(size: str) -> np.ndarray:
    return frames_to_resize(*map(int, size.split("x")))


def at(storage, size: int):
    return dataclasses.replace(storage, resample=dataclasses.replace(storage.resample, size=size))


def agree(got: np.ndarray, key: str, atol: float) -> None:
    """The golden's 400 samples, and the figures of the whole array.

    Of bytes, one in 400 may be a level off: the last bit of a float32 sum depends on the processor, and truncation
    makes a level of it.
    """
    meta = golden("preprocess_meta.json")["arrays"][key]
    assert list(got.shape) == meta["shape"]
    off = np.abs(sample(got, 400).astype(np.float64) - arrays("preprocess_samples.npz")[key])
    assert np.sort(off)[-2 if atol == 0 else -1] <= atol
    assert off.max() <= 1
    wide = got.astype(np.float64)
    for figure in ("mean", "std", "min", "max"):
        assert getattr(wide, figure)() == pytest.approx(meta[figure], abs=max(atol, 1e-5))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("peer", "row", "atol"), INPUTS)
def test_frames_reach_the_network_as_in_published_code(peer, row, atol, size):
    golden("preprocess_meta.json")
    agree(i3d_input(frames(size), FVD[row].resample).numpy(), f"{peer}/{size}", atol)


@pytest.fixture(params=[1, 3])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    assert torch.get_num_threads() == request.param  # as it was found
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("peer", "storage"), LOADERS)
def test_loaders_lose_what_theirs_lose(peer, storage, size):
    golden("preprocess_meta.json")
    stored = store(frames(size), at(storage, 128))
    agree(stored, f"{peer}_loader128_byte/{size}", 0)
    agree(i3d_input(stored, FVD[peer].resample).numpy(), f"{peer}_loader128_byte_then_i3d/{size}", 2e-6)


def test_neither_threads_nor_who_else_resizes_change_a_byte():
    video, storage = frames("256x256"), at(TATS, 128)
    expected = store(video, storage)
    inputs = i3d_input(video, FVD["tats"].resample)
    alone = torch.get_num_threads()
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        try:
            with ThreadPoolExecutor(4) as pool:
                stored = [pool.submit(store, video, storage) for _ in range(8)]
                ready = [i3d_input(video, FVD["tats"].resample) for _ in range(8)]  # which sets threads meanwhile
            assert all(np.array_equal(each.result(), expected) for each in stored)
            assert all(torch.equal(each, inputs) for each in ready)
            assert torch.get_num_threads() == count
        finally:
            torch.set_num_threads(alone)


@pytest.mark.parametrize("source", ["240x320", "256x256"])
@pytest.mark.parametrize("size", [128, 256])
def test_styleganv_stores_as_its_script_does(source, size):
    golden("preprocess_meta.json")
    key = f"styleganv_convert{size}_uint8_{{}}_jpeg/{source}"
    agree(store(frames(source), at(STYLEGANV_LOSSLESS, size))[0], key.format("before"), 0)
    known = arrays("preprocess_samples.npz")[key.format("after")].astype(int)
    assert np.abs(sample(store(frames(source), at(STYLEGANV, size))[0], 400).astype(int) - known).max() <= 2


@pytest.mark.parametrize("size", [112, 128, 256])
@pytest.mark.parametrize("row", ["tgan", "tgan2"])
def test_c3d_reads_what_tgan_s_reads(row, size):
    peer = {"tgan": "tgan1_pre", "tgan2": "tgan2_pre"}[row]
    meta = golden("c3d_meta.json")[f"{peer}/S{size}"]
    got = c3d_input(c3d_clips(size), IS[row], torch.from_numpy(c3d_mean())).contiguous().numpy()
    np.testing.assert_allclose(sample(got, 400), arrays("c3d.npz")[f"{peer}/S{size}"], rtol=0, atol=5e-3)
    assert got.astype(np.float64).mean() == pytest.approx(meta["mean"], abs=1e-3)
    assert got.astype(np.float64).std() == pytest.approx(meta["std"], abs=1e-3)


def tf1_by_loops(image: np.ndarray, size: int) -> np.ndarray:
    """Legacy bilinear, pixel by pixel, as the definition reads."""
    height, width, _ = image.shape
    out = np.empty((size, size, 3))
    for i in range(size):
        for j in range(size):
            y, x = np.float32(i) * np.float32(height / size), np.float32(j) * np.float32(width / size)
            a, b = int(y), int(x)
            c, d = min(a + 1, height - 1), min(b + 1, width - 1)
            top = image[a, b] + (image[a, d] - image[a, b]) * (x - b)
            bottom = image[c, b] + (image[c, d] - image[c, b]) * (x - b)
            out[i, j] = top + (bottom - top) * (y - a)
    return out


@pytest.mark.parametrize("shape", [(7, 11), (31, 17), (16, 16), (40, 8), (1, 5)])
def test_tf1_bilinear_is_its_definition(shape):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3)).astype(np.float64)
    got = resize(torch.from_numpy(image).permute(2, 0, 1)[None], Resample("bilinear-tf1", "squash", 13))
    np.testing.assert_allclose(got[0].permute(1, 2, 0).numpy(), tf1_by_loops(image, 13), atol=1e-4)


def test_tf1_bilinear_keeps_the_first_pixel_and_half_pixel_centres_do_not():
    ramp = torch.arange(8.0).expand(1, 1, 8, 8)
    legacy, torchs = (resize(ramp, Resample(kernel, "squash", 4)) for kernel in ("bilinear-tf1", "bilinear"))
    assert legacy[0, 0, 0].tolist() == [0, 2, 4, 6]
    assert torchs[0, 0, 0].tolist() == [0.5, 2.5, 4.5, 6.5]


@pytest.mark.parametrize("kernel", ["bilinear", "bilinear-antialias", "bilinear-tf1", "bilinear-corners", "bicubic"])
@pytest.mark.parametrize("fit", ["squash", "crop"])
@pytest.mark.parametrize("shape", [(24, 32), (32, 24), (20, 20), (9, 100)])
def test_every_kernel_keeps_a_constant_and_the_wanted_size(kernel, fit, shape):
    gray = torch.full((2, 3, *shape), 100.0)
    out = resize(gray, Resample(kernel, fit, 16))
    assert out.shape == (2, 3, 16, 16)
    torch.testing.assert_close(out, torch.full_like(out, 100.0), rtol=0, atol=1e-4)


def test_frames_of_the_network_s_size_are_not_touched():
    video = np.random.default_rng(0).integers(0, 256, (1, 3, 224, 224, 3), dtype=np.uint8)
    for row in FVD.values():
        got = i3d_input(video, row.resample)
        assert torch.equal(got, 2 * torch.from_numpy(video).permute(0, 4, 1, 2, 3).float() / 255 - 1)
        assert got.is_contiguous(memory_format=torch.channels_last_3d)


def test_crop_plans():
    ceil, floor = Resample("bilinear", "crop", 128), Resample("bilinear", "crop", 128, "floor")
    assert crop_plan(240, 320, ceil) == ((128, 171), (0, 21))
    assert crop_plan(240, 320, floor) == ((128, 170), (0, 21))
    assert crop_plan(320, 240, ceil) == ((171, 128), (21, 0))
    assert crop_plan(320, 241, floor) == ((169, 128), (20, 0))  # 20.5 rounds to even
    assert crop_plan(100, 100, floor) == ((128, 128), (0, 0))


@pytest.mark.parametrize("shape", [(1, 2, 30, 44, 3), (2, 1, 44, 30, 3), (1, 1, 33, 33, 3)])
def test_channels_last_memory_changes_nothing(shape):
    video = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    plain = torch.from_numpy(video).flatten(0, 1).permute(0, 3, 1, 2).contiguous().float()
    want = F.interpolate(plain, (224, 224), mode="bilinear", align_corners=False) / 127.5 - 1
    got = i3d_input(video, FVD["cdfvd"].resample).transpose(1, 2).flatten(0, 1)
    torch.testing.assert_close(got, want, rtol=0, atol=1e-5)


def test_one_frame_s_bytes_do_not_depend_on_the_others():
    videos = np.random.default_rng(2).integers(0, 256, (2, 3, 50, 70, 3), dtype=np.uint8)
    for storage in (STYLEGANV, STYLEGANV_LOSSLESS, TATS, CDFVD):
        whole = store(videos, at(storage, 32))
        assert whole.shape == (2, 3, 32, 32, 3)
        assert np.array_equal(whole[1:, 2:], store(videos[1:, 2:], at(storage, 32)))


def test_what_each_way_to_bytes_loses():
    levels = torch.arange(256) / 255
    gray = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(quantise(levels, "round"), gray)
    assert torch.equal(quantise(levels, "truncate"), gray)
    lost = (gray.int() - quantise(levels, "truncate-shifted").int()).float()
    assert set(lost.tolist()) == {0.0, 1.0}
    assert 0.1 < lost.mean() < 0.4
    between = torch.rand(10_000, generator=torch.Generator().manual_seed(0))
    assert (between * 255 - quantise(between, "truncate")).mean() == pytest.approx(0.5, abs=0.02)
    assert (between * 255 - quantise(between, "round")).mean() == pytest.approx(0.0, abs=0.02)


def test_jpeg_loses_more_at_lower_quality():
    frame = np.random.default_rng(3).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    coarse, fine = (np.abs(through_jpeg(frame, q).astype(int) - frame).mean() for q in (75, 95))
    assert coarse > fine > 0


def test_lanczos_of_numbers_is_refused():
    with pytest.raises(ValueError, match="lanczos works on bytes only"):
        resize(torch.zeros(1, 3, 8, 8), Resample("lanczos", "squash", 4))
