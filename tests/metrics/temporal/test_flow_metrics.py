"""Optical flow's measures: the written values, what each must and must not see, RAFT from a file."""

import numpy as np
import pytest

from metrics.intervals import mean_score
from metrics.temporal.flow_metrics import (
    FlowStatistics,
    boomerang,
    compute_flow_statistics,
    dynamic_degree,
    jitter_of,
    masked_share,
    motion_jitter,
    moves,
    turn_of,
    warp_error,
)
from metrics.temporal.optical_flow import Farneback, Flow, luma
from metrics.temporal.raft import load_raft
from metrics.temporal.score_folder import check_lengths, measure_video, phases
from metrics.temporal.seams import seam_phase, seam_ratio
from tests.metrics.goldens import chunked_videos, golden, jitter_videos, textured

VIDEOS = jitter_videos()
STATISTICS = {name: compute_flow_statistics(video[0]) for name, video in VIDEOS.items()}


@pytest.mark.parametrize("name", VIDEOS)
def test_values_agree_with_the_written_formulas(name):
    expected, statistics = golden("jitter_proposal_own.json")["one_boundary_at_8"][name], STATISTICS[name]
    assert jitter_of(statistics) == pytest.approx(expected["motion_jitter"], rel=0.05, abs=1e-4)
    assert statistics.warp.mean() == pytest.approx(expected["warp_error"], rel=0.05, abs=1e-5)
    assert statistics.masked.mean() == pytest.approx(expected["masked_share"], rel=0.05, abs=1e-4)


@pytest.mark.parametrize("name", ["cut8", "seam8_jump9", "seam8_reverse", "translate2"])
def test_seams_agree_with_the_written_formulas(name):
    expected = golden("jitter_proposal_own.json")["one_boundary_at_8"][name]
    for signal, key in (("W", "seam_warp"), ("dF", "seam_dF")):
        assert 2 ** seam_ratio(VIDEOS[name], [8], signal=signal).value == pytest.approx(expected[key], rel=0.05)


def test_jumps_and_steps_of_light_show_in_the_signals_that_can_see_them():
    expected, seams = golden("jitter_proposal_own.json")["T33_chunks_of_8"], [8, 16, 24, 32]
    videos = chunked_videos()
    for name, signal, phase in (
        ("jump3_each_chunk", "dF", 1 / 6),
        ("brightness_step4_each_chunk", "W", 1 / 8),
        ("noisy_jump3", "dF", 1 / 6),
    ):
        ratio = 2 ** seam_ratio(videos[name], seams, signal=signal).value
        assert ratio == pytest.approx(expected[name][signal]["true"], rel=0.05)
        assert ratio > 3
        assert seam_phase(videos[name], seams, signal=signal).value == phase
    blind = 2 ** seam_ratio(videos["brightness_step4_each_chunk"], seams, signal="dF").value
    assert blind == pytest.approx(1, abs=0.05)


def test_a_still_video_does_not_move():
    still = VIDEOS["static"]
    for score in (motion_jitter, warp_error, masked_share, dynamic_degree):
        assert score(still).value == pytest.approx(0, abs=1e-6)
    assert boomerang(still, [8]).value == 0
    for signal in ("W", "dF"):
        assert seam_ratio(still, [8], signal=signal).value == pytest.approx(0, abs=1e-3)


def test_motion_jitter_knows_constant_speed_shake_shuffle_and_light():
    values = {name: jitter_of(statistics) for name, statistics in STATISTICS.items()}
    assert values["translate1"] < 0.02
    assert values["translate2"] < 0.02
    assert values["flicker10"] < 0.02
    assert values["translate2_flicker10"] < 0.02
    assert values["shake"] > 0.9
    assert values["shuffle"] > 4 * values["translate2"]
    for name in ("translate1", "translate2"):
        for signal in ("W", "dF"):
            assert 2 ** seam_ratio(VIDEOS[name], [8], signal=signal).value == pytest.approx(1, abs=0.05)


def test_warp_error_sees_light_that_motion_does_not_explain():
    assert STATISTICS["flicker10"].warp.mean() == pytest.approx(10 / 255, rel=0.01)
    assert STATISTICS["translate2"].warp.mean() < 0.005
    assert STATISTICS["cut8"].masked[7] > 0.8
    assert STATISTICS["cut8"].masked[[6, 8]].max() < 0.05
    assert STATISTICS["cut8"].warp[7] > 5 * np.median(STATISTICS["cut8"].warp)  # a cut is not hidden by its own mask


def test_speed_is_in_pixels_a_frame():
    assert STATISTICS["translate1"].speed == pytest.approx(np.full(15, 1), rel=0.05)
    assert STATISTICS["translate2"].speed == pytest.approx(np.full(15, 2), rel=0.05)


def test_a_boomerang_is_told_from_motion_that_goes_on_and_from_a_cut_elsewhere():
    assert boomerang(VIDEOS["seam8_reverse"], [8]).value == pytest.approx(1, abs=0.05)
    for name in ("translate2", "seam8_jump9", "flicker10"):
        assert boomerang(VIDEOS[name], [8]).value == pytest.approx(0, abs=0.05)
    assert turn_of(STATISTICS["seam8_reverse"], np.array([4])) == pytest.approx(0, abs=0.05)
    turning = np.stack([textured(2 * (t if t < 8 else 15 - t)) for t in range(16)]).astype(np.uint8)[None]
    assert boomerang(turning, [8]).value > 0.9  # the frame at the seam is held, then all goes back
    with pytest.raises(ValueError, match=r"in 1\.\.15 for 16 frames"):
        boomerang(turning, [16])
    with pytest.raises(ValueError, match="leave no motion to compare with"):
        boomerang(turning[:, :4], [2])


def test_dynamic_degree_counts_videos_that_move_fast_enough():
    assert moves(STATISTICS["translate2"]) == 1  # 2 pixels of 64, above 6/256
    assert moves(STATISTICS["translate1"]) == 0
    assert moves(STATISTICS["flicker10"]) == 0
    some = np.concatenate([VIDEOS[name] for name in ("static", "translate2", "translate1", "accelerate")])
    assert dynamic_degree(some).value == 0.5


def moving(fast: int, frames: int, pixels: float = 7.0) -> FlowStatistics:
    """A video of 256 pixels a side with so many fast steps."""
    steps = np.where(np.arange(frames - 1) < fast, pixels, 0.0)
    return FlowStatistics(steps, steps, steps[1:], steps[2:], steps, steps, 256)


@pytest.mark.parametrize(("frames", "needed"), [(16, 4), (14, 4), (13, 3), (22, 6), (6, 2), (5, 1), (3, 1), (2, 1)])
def test_a_quarter_as_many_fast_steps_as_frames_make_a_video_dynamic(frames, needed):
    """VBench counts round(4 * frames / 16), of frames and not of steps; here never less than one."""
    assert moves(moving(needed, frames)) == 1
    assert moves(moving(needed - 1, frames)) == 0
    assert needed == max(1, round(4 * frames / 16))


def test_slow_films_have_a_higher_bar_and_fast_films_are_looked_at_less_often():
    assert [moves(moving(4, 16), fps) for fps in (8.0, 25.0, 6.0, 4.0)] == [1, 1, 0, 0]
    assert moves(moving(4, 16, 13.0), 4.0) == 1  # twice the way a step at half the rate
    slow = VIDEOS["translate1"]  # 1 pixel of 64 a step is below the bar, 3 pixels in three steps above it
    assert dynamic_degree(slow).value == 0
    assert dynamic_degree(slow, fps=25.0).value == dynamic_degree(slow[:, ::3]).value == 1
    degrees = [measure_video(slow[0], rate=rate).values["dynamic_degree"] for rate in (25.0, None, 8.0)]
    assert degrees == [1, 0, 0]


def test_all_of_a_set_is_what_its_videos_score_one_by_one():
    videos = [VIDEOS[name][0] for name in ("translate2", "cut8", "noise8")]
    measured = [measure_video(video, seams=(8,)) for video in videos]
    values = {name: [each.values[name] for each in measured] for name in measured[0].values}
    jitters = mean_score(values["motion_jitter"], "motion_jitter")
    assert jitters[:4] == pytest.approx(motion_jitter(np.stack(videos))[:4], rel=1e-12)
    ratio = seam_ratio(np.stack(videos), [8], signal="dF")
    assert mean_score(values["seam_ratio:dF"])[:4] == pytest.approx(ratio[:4], rel=1e-12)
    ranks = phases({"D": [each.signals["D"] for each in measured]}, (8,))
    assert ranks["seam_phase:D"].value == seam_phase(np.stack(videos), [8]).value
    assert values["boomerang"][0] == pytest.approx(boomerang(videos[0][None], [8]).value, rel=1e-12)
    plain = measure_video(videos[0], flow=None).values
    assert not plain.keys() & {"motion_jitter", "warp_error", "seam_ratio:D", "boomerang"}
    with pytest.raises(ValueError, match=r"these have \[12, 16\] frames: give one length"):
        check_lengths([16, 12], (8,))


def test_flow_is_named_with_its_settings():
    assert isinstance(Farneback(), Flow)
    assert Farneback().name.startswith("farneback(0.5,3,15,3,5,1.2) opencv ")
    assert luma(np.full((1, 1, 1, 3), 77, dtype=np.uint8)).tolist() == [[[77]]]


@pytest.fixture(scope="module")
def raft_file(tmp_path_factory):
    import torch
    from torchvision.models import optical_flow as flows

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("raft") / "raft_small.pth"
    torch.save(flows.raft_small(weights=None).state_dict(), path)
    return path


def test_raft_reads_torchvision_s_own_files(raft_file, tmp_path):
    import torch
    from safetensors.torch import save_file

    raft = load_raft(raft_file, updates=2)
    assert raft.name.startswith("raft_small sha256:")
    video = VIDEOS["translate2"][0][:4, :48]
    pairs = list(raft(video))
    assert len(pairs) == 3
    assert all(pair.forward.shape == pair.backward.shape == (48, 64, 2) for pair in pairs)
    again = list(load_raft(raft_file, updates=2)(video[1:]))
    np.testing.assert_allclose(again[0].forward, pairs[1].forward, rtol=1e-3, atol=1e-3)  # batches change rounding only
    assert np.isfinite(compute_flow_statistics(video, raft).speed).all()
    save_file(torch.load(raft_file, weights_only=True), tmp_path / "raft.safetensors")
    other = next(load_raft(tmp_path / "raft.safetensors", updates=2)(video))
    np.testing.assert_array_equal(other.forward, pairs[0].forward)


def test_files_that_hold_no_raft_are_refused(raft_file, tmp_path):
    import torch

    state = torch.load(raft_file, weights_only=True)
    cases = {
        "absent.pth": None,
        "other.pth": {"weight": torch.zeros(3)},
        "short.pth": dict(list(state.items())[:-1]),
        "nan.pth": state | {"feature_encoder.convnormrelu.0.weight": torch.full((32, 3, 7, 7), torch.nan)},
    }
    for name, content in cases.items():
        if content is not None:
            torch.save(content, tmp_path / name)
    (tmp_path / "cut.pth").write_bytes(raft_file.read_bytes()[:1000])
    for name, words in (
        ("absent.pth", "cannot be used as weights: there is no such file"),
        ("other.pth", "holds no weights of torchvision's RAFT"),
        ("short.pth", "does not fit raft_small"),
        ("nan.pth", "has values that are not finite"),
        ("cut.pth", "it is no whole zip archive"),
    ):
        with pytest.raises(ValueError, match=words):
            load_raft(tmp_path / name)
