"""Flicker, jitter, seams, motion, held and cycling frames: what each must and must not see."""

import numpy as np
import pytest

from metrics.temporal.frame_difference import (
    differences,
    flicker,
    jitter,
    light_jitter,
    motion,
    saturation_drift,
    temporal_flickering,
)
from metrics.temporal.seams import cycling, duplicates, seam_phase, seam_ratio
from tests.metrics.goldens import chunked_videos, golden, jitter_videos, textured

VIDEOS = jitter_videos()


def moving(positions) -> np.ndarray:
    """One video of a texture at these offsets, frame by frame."""
    return np.stack([textured(int(position)) for position in positions]).astype(np.uint8)[None]


def wandering(frames: int, seed: int = 0) -> np.ndarray:
    """Offsets that drift on at an uneven pace and never come back."""
    return np.cumsum(np.random.default_rng(seed).integers(1, 4, frames))


def boomerang(clip: int, clips: int) -> np.ndarray:
    """Clips that each play the one before backwards."""
    forth = wandering(clip)
    return np.concatenate([forth if i % 2 == 0 else forth[::-1] for i in range(clips)])


@pytest.mark.parametrize("name", VIDEOS)
def test_values_agree_with_the_written_formulas_and_with_vbench(name):
    expected = golden("jitter_proposal_own.json")["one_boundary_at_8"][name]
    video = VIDEOS[name]
    if vbench := golden("vbench_flicker.json").get(name):
        assert int(video.sum()) == vbench["checksum"]
        np.testing.assert_allclose(255 * differences(video[0]), vbench["mae_seq"], rtol=1e-7)  # there in float32
        assert temporal_flickering(video).value == pytest.approx(vbench["cal_score"], rel=1e-14)
    assert flicker(video).value == pytest.approx(expected["flicker"], rel=1e-12)
    assert jitter(video).value == pytest.approx(expected["jitter"], abs=1e-9)
    assert light_jitter(video).value == pytest.approx(expected["light_jitter"], abs=1e-9)
    for signal in ("D", "A"):
        ratio = 2 ** seam_ratio(video, [8], signal=signal).value
        assert ratio == pytest.approx(expected[f"seam_{signal}"], rel=1e-9)


@pytest.mark.parametrize("name", chunked_videos())
def test_seams_of_many_chunks_and_their_rank_among_shifted_grids(name):
    expected = golden("jitter_proposal_own.json")["T33_chunks_of_8"][name]
    video, seams = chunked_videos()[name], [8, 16, 24, 32]
    for signal in ("D", "A"):
        assert 2 ** seam_ratio(video, seams, signal=signal).value == pytest.approx(expected[signal]["true"], rel=1e-9)
        if "smooth" not in name:
            assert seam_phase(video, seams, signal=signal).value == 1 / {"D": 8, "A": 6}[signal]


def test_a_still_video_scores_exactly_zero_everywhere():
    still = VIDEOS["static"]
    for measure in (flicker, jitter, light_jitter, motion):
        assert measure(still).value == 0
    assert seam_ratio(still, [8]).value == seam_ratio(still, [8], signal="A").value == 0
    assert cycling(still, [8]).value == 0
    assert duplicates(still).value == duplicates(still, [8]).value == 1


def test_jitter_knows_fade_noise_and_alternation():
    assert jitter(VIDEOS["brightness_ramp"]).value == 0
    assert jitter(VIDEOS["flicker10"]).value == 1
    assert jitter(VIDEOS["noise8"]).value == pytest.approx(3**0.5 / 2, abs=0.02)
    assert light_jitter(VIDEOS["flicker10"]).value == pytest.approx(20 / 255, rel=1e-12)
    assert jitter(VIDEOS["shuffle"]).value > 4 * jitter(VIDEOS["translate2"]).value


def test_temporal_flickering_is_flicker_turned_round():
    videos = np.concatenate([VIDEOS[name] for name in ("static", "translate1", "shuffle")])
    score, plain = temporal_flickering(videos), flicker(videos)
    assert score[:4] == pytest.approx((1 - plain.value, 3, 1 - plain.high, 1 - plain.low), rel=1e-6)


def test_saturation_drift_sees_colour_that_grows_and_not_light():
    share = np.linspace(0, 1, 16)[:, None, None, None]
    gray, color = np.full((16, 4, 4, 3), 100.0), np.array([180.0, 100.0, 80.0])
    burnt = (gray + share * (color - 100)).astype(np.uint8)[None]
    assert saturation_drift(burnt).value == pytest.approx(0.8 * 100 / 255, abs=0.01)  # quarters lie 12/15 apart
    assert saturation_drift(burnt[:, ::-1]).value == -saturation_drift(burnt).value
    assert saturation_drift(VIDEOS["brightness_ramp"]).value == 0
    assert saturation_drift(VIDEOS["static"]).value == 0


@pytest.mark.parametrize("measure", [flicker, jitter, light_jitter, motion])
def test_playing_backwards_changes_nothing(measure):
    for name in ("accelerate", "shuffle", "translate2_noise8"):
        video = VIDEOS[name]
        assert measure(video[:, ::-1]).value == pytest.approx(measure(video).value, rel=1e-12)


def test_contrast_scales_flicker_and_motion_and_leaves_jitter():
    full = 2 * (VIDEOS["accelerate"] // 2)
    half = full // 2
    assert flicker(half).value == pytest.approx(flicker(full).value / 2, rel=1e-12)
    assert motion(half).value == pytest.approx(motion(full).value / 2, rel=1e-12)
    assert jitter(half).value == pytest.approx(jitter(full).value, rel=1e-12)


def test_motion_sees_motion_and_neither_noise_nor_flicker_nor_blur():
    speed = {
        name: motion(VIDEOS[name]).value for name in ("translate1", "translate2", "noise8", "flicker10", "uniform")
    }
    assert speed["translate2"] > 1.5 * speed["translate1"] > 0.03
    assert speed["noise8"] < 0.1 * speed["translate1"]
    assert speed["uniform"] < 0.3 * speed["translate1"]
    assert speed["flicker10"] == 0
    assert motion(VIDEOS["translate2_noise8"]).value == pytest.approx(speed["translate2"], rel=0.05)
    wide = VIDEOS["translate2"].astype(float)
    blurred = np.rint((wide + np.roll(wide, 1, axis=3) + np.roll(wide, 2, axis=3)) / 3).astype(np.uint8)
    assert motion(blurred).value <= speed["translate2"]


def test_a_seam_shows_at_its_place_only():
    cut = VIDEOS["cut8"]
    for signal in ("D", "A"):
        levels = {k: seam_ratio(cut, [k], signal=signal).value for k in range(2, 15)}
        assert levels[8] == max(levels.values())
        assert levels[8] > np.log2(3)
        assert all(level < 0.5 for k, level in levels.items() if k not in (7, 8, 9))
    assert seam_phase(cut, [8]).value == 1 / 8


def test_held_and_mirrored_frames_are_stiller_than_real_and_are_told():
    still = moving([*range(0, 16, 2), *range(14, 30, 2)])
    assert seam_ratio(still, [8]).value < -1
    assert duplicates(still, [8]).value == 1
    assert duplicates(still).value == pytest.approx(1 / 15)
    assert duplicates(VIDEOS["translate2"], [8]).value == 0
    assert seam_ratio(VIDEOS["seam8_reverse"], [8], signal="A").value > 1


def test_cycling_tells_a_boomerang_from_motion_that_goes_on():
    forth_and_back = moving(boomerang(8, 4))
    onward = moving(wandering(32))
    seams = [8, 16, 24]
    assert cycling(forth_and_back, seams).value == 1
    assert cycling(forth_and_back, seams, kind="repeat").value == 1
    assert abs(cycling(onward, seams).value) < 0.15
    assert cycling(onward, seams, kind="repeat").value < 0.15
    assert cycling(forth_and_back, [4, 12, 20, 28]).value < 0.5  # true mirrors count only where the seams are
    assert cycling(VIDEOS["cut8"], [8]).value < 0


def test_cycling_finds_the_mirror_where_the_join_dropped_frames():
    clips = boomerang(8, 3).reshape(3, 8)
    joined = moving([*clips[0], *clips[1][2:], *clips[2][2:]])
    trimmed = moving([*clips[0], *clips[1][2:]])
    assert cycling(trimmed, [8], dropped=2).value == 1
    assert cycling(trimmed, [8]).value < 0.9
    assert cycling(joined, [8, 14], dropped=2).value > 0.9


def test_a_set_scores_its_videos_mean_with_a_t_interval():
    videos = np.concatenate([VIDEOS[name] for name in ("static", "translate1", "translate2", "noise8")])
    measures = {
        (0, 1): (flicker, jitter, motion, duplicates),
        (-1, 1): (lambda v: cycling(v, [8]),),
        (-np.inf, np.inf): (lambda v: seam_ratio(v, [8]),),
    }
    for (least, most), measure in ((span, measure) for span, each in measures.items() for measure in each):
        score = measure(videos)
        singles = [measure(video[None]).value for video in videos]
        assert score.n == 4
        assert score.value == pytest.approx(np.mean(singles), rel=1e-12)
        reach = 3.182446 * np.std(singles, ddof=1) / 2
        ends = max(least, score.value - reach), min(most, score.value + reach)  # no interval leaves the range
        assert (score.low, score.high) == pytest.approx(ends, rel=1e-6)
        assert measure(videos[:1]).low is None


def test_seams_that_make_no_sense_are_refused():
    video = VIDEOS["translate2"]
    for seams in ([], [0], [16], [-3, 8]):
        with pytest.raises(ValueError, match=r"first frames of new clips, in 1\.\.15 for 16 frames"):
            seam_ratio(video, seams)
    with pytest.raises(ValueError, match="leave no frame to compare with: give longer clips"):
        seam_ratio(video, range(1, 16))
    for measure in (seam_phase, lambda video, seams: cycling(video, seams, kind="repeat")):
        with pytest.raises(ValueError, match=r"evenly spaced seams: got \[4, 6, 12\]"):
            measure(video, [4, 6, 12])
    with pytest.raises(ValueError, match="clips of 8 frames repeat after 16: got 16 frames"):
        cycling(video, [8], kind="repeat")
    with pytest.raises(ValueError, match="leave no pair to compare"):
        cycling(video[:, :2].repeat(2, axis=1)[:, :3], [1, 2], dropped=1)
    with pytest.raises(ValueError, match="leave no frame to compare with: give longer clips"):
        duplicates(video, range(1, 16))
    with pytest.raises(ValueError, match="averages over 3 x 3 pixels: got 64 x 2, give larger frames"):
        motion(video[:, :, :, :2])
    with pytest.raises(ValueError, match="at least 3 frames: got 2"):
        jitter(video[:, :2])
