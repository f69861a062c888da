"""The camera moves as its boxes say, smoothly, inside the picture, as Pillow would show it."""

from itertools import islice

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vidrd.data.media import decode, to_rgb
from vidrd.data.zoompan import Camera, Path, animate, draw_path, move, name_motion


def move_by_pil(picture, boxes, size):
    """The frames of `move` by Pillow, box after box: a slow reference.

    Its bilinear kernel is stretched with the reduction, and then reaches twice as far as a pixel: it blurs more.
    """
    image = Image.fromarray(picture)
    frames = []
    for x, y, side in boxes:
        box = (x - side / 2, y - side / 2, x + side / 2, y + side / 2)
        inside = (max(0.0, box[0]), max(0.0, box[1]), min(image.width, box[2]), min(image.height, box[3]))
        frames.append(np.asarray(image.resize((size, size), Image.Resampling.BILINEAR, box=inside)))
    return np.stack(frames)


def picture(height=512, width=640, seed=0):
    """Smooth blobs and fine texture: a photograph's spectrum, 1/f, and the blur of a lens."""
    rng = np.random.default_rng(seed)
    spectrum = np.fft.rfft2(rng.standard_normal((3, height, width)))
    fy, fx = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)
    shaped = np.fft.irfft2(spectrum / np.maximum(np.hypot(fy, fx), 1 / height) ** 1.0, (height, width))
    shaped = (shaped - shaped.min()) / (shaped.max() - shaped.min())
    return cv2.GaussianBlur((shaped.transpose(1, 2, 0) * 255).astype(np.uint8), (0, 0), 1.3)


def moved_frames(image, path, frames, size, **options):
    boxes = torch.from_numpy(path.boxes(frames)).float()[None]
    clip = move(torch.from_numpy(image).permute(2, 0, 1)[None].float(), boxes, size, **options)
    return clip[0].permute(1, 2, 3, 0).numpy()


def psnr(a, b):
    return 10 * np.log10(255**2 / ((a.astype(float) - b.astype(float)) ** 2).mean())


def exact(image, path, frames, size, oversample=8):
    """Supersampled so finely that it may stand for the truth."""
    return moved_frames(image.astype(np.float32), path, frames, size, samples=oversample)


PATHS = {
    "pan": Path((200.0, 220.0, 380.0), (330.5, 250.25, 380.0)),
    "zoom": Path((320.0, 256.0, 500.0), (300.0, 240.0, 300.0), "smooth"),
    "slow": Path((250.0, 250.0, 260.0), (253.0, 250.0, 260.0)),
}


@pytest.mark.parametrize("name", PATHS)
def test_frames_are_those_of_pillow(name):
    image, path = picture(), PATHS[name]
    reference = move_by_pil(image, path.boxes(16), 128)
    assert psnr(np.round(moved_frames(image, path, 16, 128)), reference) >= 45


LARGE = {
    "pan": Path((600.0, 620.0, 700.0), (760.5, 650.25, 700.0)),  # reduced 5.5 times
    "zoom": Path((700.0, 600.0, 1190.0), (650.0, 560.0, 520.0), "smooth"),  # 9.3 to 4.1 times
    "slow": Path((650.0, 620.0, 1030.0), (662.0, 620.0, 1030.0)),  # 8 times, 0.1 pixels a frame
}


@pytest.mark.parametrize("name", LARGE)
def test_pictures_reduced_four_times_and_more_are_those_of_pillow(name):
    image, path = picture(1200, 1400), LARGE[name]
    moved = moved_frames(image, path, 16, 128)
    assert psnr(np.round(moved), move_by_pil(image, path.boxes(16), 128)) >= 44  # its wider kernel blurs fine texture
    assert psnr(moved, exact(image, path, 16, 128, oversample=24)) >= 45


@pytest.mark.parametrize("name", ["torchcodec_nasa_13013.mp4", "mmaction2_demo.mp4", "R6llTwEh07w.mp4"])
def test_frames_of_real_pictures_are_those_of_pillow(real_clips, name):
    image = to_rgb(next(islice(decode(real_clips / "odd" / name), 14, None)))
    height, width = image.shape[:2]
    path = Path((width / 2 - 10, height / 2, height * 0.8), (width / 2 + 11.3, height / 2 + 3.2, height * 0.7))
    assert psnr(np.round(moved_frames(image, path, 16, 128)), move_by_pil(image, path.boxes(16), 128)) >= 45


@pytest.mark.parametrize("name", PATHS)
def test_motion_is_as_smooth_as_it_truly_is(name):
    image, path = picture(), PATHS[name]
    ours, true = (np.diff(x, 2, axis=0) for x in (moved_frames(image, path, 16, 128), exact(image, path, 16, 128)))
    assert np.abs(ours).mean() <= 1.2 * np.abs(true).mean()


def test_integer_crops_would_shake():
    # The test above can fail: rounding the boxes of a slow pan makes it jump.
    image, path = picture(), PATHS["slow"]
    rounded = move_by_pil(image, np.round(path.boxes(16)), 128)
    true = exact(image, path, 16, 128)
    assert np.abs(np.diff(rounded.astype(float), 2, axis=0)).mean() > 1.2 * np.abs(np.diff(true, 2, axis=0)).mean()


def test_a_constant_picture_stays_so_and_a_ramp_moves_exactly():
    flat = np.full((200, 300, 3), 77, np.uint8)
    path = Path((100.0, 100.0, 150.0), (180.0, 100.0, 150.0))
    np.testing.assert_allclose(moved_frames(flat, path, 5, 32), 77, atol=1e-4)
    ramp = np.repeat(np.linspace(0, 255, 300, dtype=np.float32)[None, :, None], 200, 0).repeat(3, 2)
    clip = moved_frames(ramp, path, 5, 32)
    steps = np.diff(clip[:, 16, 16, 0])
    np.testing.assert_allclose(steps, 255 / 299 * 80 / 4, rtol=1e-3)


def test_the_last_frame_is_the_end_box():
    image = picture()
    path = PATHS["zoom"]
    still = Path(path.end, path.end)
    np.testing.assert_allclose(moved_frames(image, path, 16, 64)[-1], moved_frames(image, still, 1, 64)[0], atol=0.5)


def test_a_batch_is_its_members():
    images = torch.stack([torch.from_numpy(picture(seed=s)).permute(2, 0, 1).float() for s in (0, 1)])
    boxes = torch.stack([torch.from_numpy(PATHS[n].boxes(4)).float() for n in ("pan", "zoom")])
    both = move(images, boxes, 64, samples=3)
    for index in range(2):
        one = move(images[index : index + 1], boxes[index : index + 1], 64, samples=3)
        torch.testing.assert_close(both[index : index + 1], one)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(64, 900), st.integers(64, 900), st.integers(2, 40))
def test_the_camera_never_leaves_the_picture(seed, height, width, frames):
    camera = Camera(frames=frames, size=64)
    path = draw_path(height, width, camera, np.random.default_rng(seed))
    if path is None:
        assert min(height, width) < 64 / camera.most_enlarged + 1
        return
    boxes = path.boxes(frames)
    half = boxes[:, 2] / 2
    assert (boxes[:, 0] - half >= -1e-6).all()
    assert (boxes[:, 0] + half <= width + 1e-6).all()
    assert (boxes[:, 1] - half >= -1e-6).all()
    assert (boxes[:, 1] + half <= height + 1e-6).all()
    assert boxes[:, 2].min() >= 64 / camera.most_enlarged - 1e-6
    assert boxes[:, 2].min() >= camera.smallest * min(height, width) - 1e-6


def test_speeds_are_as_asked_and_some_clips_hold():
    camera = Camera(frames=16, size=64)
    paths = [draw_path(600, 800, camera, np.random.default_rng(seed)) for seed in range(400)]
    shifts = [np.hypot(p.end[0] - p.start[0], p.end[1] - p.start[1]) / 15 / p.start[2] for p in paths]
    held = np.mean([p.start == p.end for p in paths])
    assert 0.08 < held < 0.25
    assert max(shifts) <= camera.fastest * 1.01
    moving = np.array([s for s, p in zip(shifts, paths, strict=True) if p.start != p.end])
    assert np.median(moving) < 0.5 * (camera.slowest + camera.fastest)  # log-uniform: slow ones are common


def test_the_motion_has_a_name():
    start = (100.0, 100.0, 100.0)
    assert name_motion(Path(start, (140.0, 105.0, 100.0))) == "the camera pans right"
    assert name_motion(Path(start, (100.0, 60.0, 80.0))) == "the camera pans up and zooms in"
    assert name_motion(Path(start, (100.0, 100.0, 120.0))) == "the camera zooms out"
    assert name_motion(Path(start, (101.0, 100.0, 100.0))) == ""


def test_a_clip_is_the_pictures_and_small_pictures_are_refused():
    camera = Camera(frames=6, size=64)
    clip, path = animate(picture(128, 160), camera, np.random.default_rng(3))
    assert clip.shape == (6, 64, 64, 3)
    assert clip.dtype == np.uint8
    assert psnr(clip, move_by_pil(picture(128, 160), path.boxes(6), 64)) > 35
    assert animate(picture(40, 40), camera, np.random.default_rng(3)) is None
