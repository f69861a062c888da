"""The input stages of VBench, against its own arrays."""

import numpy as np
import pytest
import torch
from torchvision.transforms.functional import center_crop

from metrics.videos import vision
from metrics.videos.read import list_videos
from metrics.videos.stream import stream_frames
from tests.metrics import recipes2026 as recipe
from tests.metrics.recipes import rng, sample
from tests.metrics.video_files import write_lossless

STAGES = {
    "dino": (vision.dino_input, 2e-5),
    "clip": (vision.clip_input, 2e-5),
    "clip_uint8": (lambda frames: vision.clip_input(frames, as_bytes=True), 0.018),
    "musiq_longer": (vision.imaging_input, 2e-5),
    "musiq_shorter": (lambda frames: vision.imaging_input(frames, "shorter"), 2e-5),
}


@pytest.mark.parametrize("size", ["96x128", "128x96", "240x320", "480x832"])
def test_stages_are_those_of_vbench(size):
    height, width = map(int, size.split("x"))
    noise = rng(f"golden/pre/{size}").integers(0, 256, size=(2, height, width, 3), dtype=np.uint8)[0]
    frames = np.stack([noise, recipe.gradient(0, height, width)])
    for name, (stage, tolerance) in STAGES.items():
        out, known = stage(frames), recipe.golden("preprocess")[f"{name}/{size}"]
        assert list(out.shape) == known["shape"], name
        golden = recipe.arrays("preprocess")[f"{name}/{size}"]
        np.testing.assert_allclose(sample(out.numpy(), 400), golden, atol=tolerance, err_msg=name)


def test_bicubic_overshoot_stays_but_not_in_bytes():
    edge = np.zeros((1, 96, 128, 3), np.uint8)
    edge[:, :, 64:] = 255
    black = -torch.tensor(vision.OPENAI.mean) / torch.tensor(vision.OPENAI.std)
    assert vision.clip_input(edge)[0, 0].min() < black[0] - 0.1
    assert vision.clip_input(edge, as_bytes=True)[0, 0].min() == pytest.approx(float(black[0]), abs=1e-6)


def test_sizes_of_imaging_quality():
    known = recipe.golden("formulas")
    for size, modes in known["imaging_quality_sizes"].items():
        height, width = map(int, size.split("x"))
        for mode, expected in modes.items():
            assert vision.imaging_size(height, width, mode) == tuple(expected), (size, mode)
            frames = np.zeros((1, height, width, 3), np.uint8)
            assert vision.imaging_input(frames, mode).shape[2:] == tuple(expected), (size, mode)
    lost = [side for side in range(513, 2049) if max(vision.imaging_size(side, 100)) == 511]
    assert lost == known["imaging_quality_longer_side_511"]


@pytest.mark.parametrize(("height", "width"), [(600, 900), (561, 900), (900, 561), (561, 561)])
def test_the_middle_of_imaging_quality_is_torchvisions(height, width):
    """Also where int(512 / 561 * 561) leaves 511: the crop of 512 then has a last row of zeros."""
    frames = rng("golden/pre/crop").integers(0, 256, size=(1, height, width, 3), dtype=np.uint8)
    cropped = vision.imaging_input(frames, "shorter_centercrop")
    assert torch.equal(cropped, center_crop(vision.imaging_input(frames, "shorter"), [512, 512]))
    assert cropped.shape[2:] == vision.imaging_size(height, width, "shorter_centercrop")


def test_the_eight_frames_of_viclip():
    for length, frames in recipe.golden("formulas")["get_frame_indices_middle_8"].items():
        assert vision.middle_frames(int(length)) == frames


@pytest.mark.parametrize("kind", ["file", "array"])
def test_a_stream_has_the_frames_of_a_whole_read(tmp_path, kind):
    frames = recipe.videos()["gradient12"]
    if kind == "file":
        write_lossless(tmp_path / "video.mkv", frames)
    else:
        np.save(tmp_path / "video.npy", frames)
    (video,) = list_videos(tmp_path)
    blocks = list(stream_frames(video, 5))
    assert [len(block) for block in blocks] == [5, 5, 2]
    np.testing.assert_array_equal(np.concatenate(blocks), video.read())
