"""A planted mark is found, undone and scored; clean video is left as it is."""

import os
import zipfile

import cv2
import numpy as np
import pytest

from tests.vidrd.data.clips import scenes
from vidrd.data.record import Drop, Pixels, Record
from vidrd.data.watermarks import (
    Overlay,
    crop_box,
    estimate,
    find_common,
    find_static,
    inpaint,
    invert,
    watermark_stage,
)
from vidrd.pocket.world import render

SIZE = 96


def logo(alpha):
    """Two letters in a corner."""
    drawn = np.zeros((SIZE, SIZE), np.uint8)
    cv2.putText(drawn, "VR", (52, 88), cv2.FONT_HERSHEY_SIMPLEX, 0.8, 255, 5)
    cover = (drawn > 127).astype(float) * alpha
    return Overlay(cover, cover[..., None] * np.array([235.0, 235.0, 235.0]))


def marked(clean, overlay):
    frames = (1 - overlay.alpha[..., None]) * clean + overlay.light
    return (frames + 0.5).clip(0, 255).astype(np.uint8)


def iou(a, b):
    return (a & b).sum() / (a | b).sum()


def psnr(a, b, mask):
    error = (a.astype(float) - b.astype(float))[..., mask, :]
    return 10 * np.log10(255**2 / (error**2).mean())


@pytest.fixture(scope="module")
def world():
    """One frame each of many pocket clips, at random times."""
    return np.concatenate([render(scenes(240), 1, size=SIZE, start=[i * 0.7 for i in range(240)])])[:, 0]


@pytest.mark.parametrize("alpha", [0.5, 0.7])
def test_a_common_mark_is_found_and_undone(world, alpha):
    overlay = logo(alpha)
    dirty = marked(world, overlay)
    mask = find_common(dirty)
    assert iou(mask, overlay.mask) > 0.5
    known = estimate(dirty, mask)
    assert abs(np.median(known.alpha[overlay.mask]) - alpha) < 0.1
    gain = psnr(invert(dirty, known), world, overlay.mask) - psnr(dirty, world, overlay.mask)
    assert gain > 8, gain


def test_clean_video_has_no_common_mark(world):
    assert not find_common(world).any()


def moving_texture(frames=24):
    """A scene that moves everywhere."""
    rng = np.random.default_rng(0)
    wide = cv2.GaussianBlur(rng.integers(0, 255, (SIZE, SIZE + 6 * frames, 3), dtype=np.uint8), (0, 0), 3)
    wide = cv2.normalize(wide, None, 0, 255, cv2.NORM_MINMAX)
    return np.stack([wide[:, 6 * t : 6 * t + SIZE] for t in range(frames)])


@pytest.mark.parametrize("alpha", [0.5, 0.9, 1.0])
def test_a_mark_over_a_moving_scene_is_found_in_one_clip(alpha):
    clean, overlay = moving_texture(), logo(alpha)
    assert iou(find_static(marked(clean, overlay)), overlay.mask) > 0.5
    assert not find_static(clean).any()


def test_a_pattern_in_changing_light_is_not_taken_for_a_mark():
    """Its edges stay and its surroundings change, but it only reflects the light, and adds none."""
    still = marked(np.full((24, SIZE, SIZE, 3), 60.0), logo(0.8))
    light = 0.8 + 0.4 * np.sin(np.linspace(0, 6, 24))
    assert not find_static((still * light[:, None, None, None]).clip(0, 255).astype(np.uint8)).any()


def test_black_bars_are_no_part_of_the_scene():
    """Their edges never move either; a mark next to them is found all the same, where it lies."""
    clean, overlay = moving_texture(), logo(0.9)
    around = ((0, 0), (12, 12), (0, 0), (0, 0))
    assert not find_static(np.pad(clean, around)).any()
    mask = find_static(np.pad(marked(clean, overlay), around))
    assert iou(mask, np.pad(overlay.mask, around[1:3])) > 0.5


def test_a_still_scene_is_not_taken_for_a_mark():
    still = np.repeat(moving_texture(1), 24, axis=0)
    assert not find_static(still).any()


def record(frames):
    return Record("k", "u", "s", "l", pixels=Pixels.of_rgb(frames, 8))


def test_marked_clips_are_scored_dropped_cropped_or_filled():
    clean, overlay = moving_texture(), logo(0.9)
    dirty = record(marked(clean, overlay))
    scored = watermark_stage(dirty, "score")
    assert scored.facts["watermark"] > 0.01
    assert scored.pixels is dirty.pixels
    assert watermark_stage(dirty, "drop").reason == "watermark"
    cropped = watermark_stage(dirty, "crop")
    assert cropped.pixels.rgb().shape[1:3] in {(SIZE, 50), (SIZE, 52), (70, SIZE), (68, SIZE), (72, SIZE), (66, SIZE)}
    filled = watermark_stage(dirty, "inpaint")
    assert filled.facts["watermark_was"] == "inpainted"
    assert psnr(filled.pixels.rgb(), clean, overlay.mask) > psnr(dirty.pixels.rgb(), clean, overlay.mask)
    fine = watermark_stage(record(clean), "drop")
    assert not isinstance(fine, Drop)
    assert fine.facts["watermark"] == 0


def test_one_mask_serves_all_frames():
    # What lies outside the mask is untouched in every frame.
    clean, overlay = moving_texture(), logo(1.0)
    dirty = marked(clean, overlay)
    filled = inpaint(dirty, overlay.mask)
    outside = ~cv2.dilate(overlay.mask.astype(np.uint8), np.ones((3, 3))).astype(bool)
    assert np.array_equal(filled[:, outside], dirty[:, outside])


def test_a_known_mark_is_inverted_and_another_size_refused():
    clean, overlay = moving_texture(), logo(0.5)
    fixed = watermark_stage(record(marked(clean, overlay)), "invert", overlay)
    assert psnr(fixed.pixels.rgb(), clean, overlay.mask) > 28
    small = Overlay(overlay.alpha[:64, :64], overlay.light[:64, :64])
    assert watermark_stage(record(clean), "invert", small).reason == "size of no known watermark"


def test_crops_leave_enough_or_nothing():
    mask = np.zeros((100, 200), bool)
    assert crop_box(mask) == (0, 100, 0, 200)
    mask[90:, 150:] = True
    assert crop_box(mask) == (0, 90, 0, 200)
    mask[45:55, 90:110] = True
    assert crop_box(mask) is None


def test_overlays_survive_the_disk_and_other_files_are_refused(tmp_path):
    overlay = logo(0.5)
    overlay.save(tmp_path / "o.npz")
    back = Overlay.load(tmp_path / "o.npz")
    assert np.array_equal(back.alpha, overlay.alpha)
    (tmp_path / "x.npz").write_bytes(b"no")
    with pytest.raises(ValueError, match="is no overlay"):
        Overlay.load(tmp_path / "x.npz")
    os.mkfifo(tmp_path / "pipe.npz")
    with pytest.raises(ValueError, match="no regular file"):
        Overlay.load(tmp_path / "pipe.npz")
    with zipfile.ZipFile(tmp_path / "huge.npz", "w") as held:
        header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000, 1000000), }\n"
        for name in ("alpha", "light"):
            held.writestr(f"{name}.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    with pytest.raises(ValueError, match=r"alpha\.npy declares 8000000000000 bytes"):
        Overlay.load(tmp_path / "huge.npz")
    np.savez(tmp_path / "flat.npz", alpha=np.zeros((4, 4)), light=np.zeros((4, 4)))
    with pytest.raises(ValueError, match=r"shapes \(4, 4\) and \(4, 4\)"):
        Overlay.load(tmp_path / "flat.npz")
