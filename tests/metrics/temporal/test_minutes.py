"""Measures of long video: against published code where there is some, and against their own definitions."""

import numpy as np
import pytest

from metrics.temporal import minutes
from tests.metrics import recipes2026 as recipe
from tests.metrics.recipes import rng

KNOWN, OWN = recipe.golden("formulas"), recipe.golden("longvideo_own")


@pytest.mark.parametrize(
    ("name", "features"),
    [
        ("still64", np.ones((64, 8))),
        ("walk120", recipe.features("m26/gap/walk", 120, 32, "walk")),
        ("short9", recipe.features("m26/gap/short", 9, 16, "walk")),
    ],
)
def test_similarity_against_gap(name, features):
    for gap, value in OWN["similarity_against_gap"][name].items():
        if value is None:
            with pytest.raises(ValueError, match=f"frames {gap} apart need more than {gap}: got 9"):
                minutes.similarity_against_gap(features, int(gap))
        else:
            assert minutes.similarity_against_gap(features, int(gap)) == pytest.approx(value, abs=1e-9)


def test_identity_is_measured_against_the_first_frame():
    angle = np.radians([0, 10, 60, 90])
    features = np.stack([np.cos(angle), np.sin(angle)], axis=1) * [[1], [5], [2], [3]]
    np.testing.assert_allclose(minutes.identity_against_first(features), np.cos(angle[1:]), atol=1e-12)
    with pytest.raises(ValueError, match="got one frame, give longer videos"):
        minutes.identity_against_first(features[:1])


def test_drift_of_start_against_end_is_helios():
    weight = np.float32(rng("weight").standard_normal((1, 768)) * 10 * 768**-0.5)
    bias = 5 + np.float32(0.1 * rng("bias").standard_normal(1))
    for length, known in KNOWN["helios_drifting_aesthetic_from_features"].items():
        features = recipe.features(f"m26/helios/{length}", int(length), 768, "walk")
        unit = features / np.linalg.norm(features, axis=1, keepdims=True)
        values = (unit @ weight[0] + bias) / 10
        assert minutes.end_frames(int(length)) == known["n_each_end"]
        assert minutes.start_against_end(values) == pytest.approx(known["drift"], abs=1e-6)


def test_the_frames_that_helios_compares_by_meaning():
    for length, known in KNOWN["helios_semantic_frame_indices"].items():
        assert minutes.semantic_frames(int(length)) == (known["start"], known["end"])
    with pytest.raises(ValueError, match="got a video of 7, give longer ones"):
        minutes.semantic_frames(7)


def test_vde_as_published_with_its_faults():
    for name, known in KNOWN["vde"].items():
        if "values" not in known:
            continue
        for kind in ("linear", "log"):
            expected = float(known[kind])
            assert minutes.vde(known["values"], kind) == pytest.approx(expected, abs=1e-6), name
    for case, value in KNOWN["vde"]["evaluate_video (metric = mean)"].items():
        frames, chunks = (int(part) for part in case.removeprefix("T").split("_chunks"))
        numbers = np.float32(rng(f"m26/vde/{frames}").random(frames))
        if value is None:
            with pytest.raises(ValueError, match=f"VDE cuts a video into {chunks} chunks: got {frames} frames"):
                minutes.chunk_means(numbers, chunks)
        else:
            assert minutes.vde(minutes.chunk_means(numbers, chunks)) == pytest.approx(value, rel=1e-6)


def test_the_repaired_drift_has_none_of_the_faults():
    steady_loss = np.full(10, 0.5) * np.where(np.arange(10) == 0, 1, 0.9)
    assert minutes.vde(steady_loss) == pytest.approx(4.5, rel=1e-5)
    for chunks in (2, 5, 10, 40):  # no growth with the number of chunks
        values = np.full(chunks, 0.45)
        values[0] = 0.5
        assert minutes.drift_of_chunks(values) == pytest.approx(0.05)
    early, late = np.full(10, 0.5), np.full(10, 0.5)
    early[1], late[-1] = 0.25, 0.25
    assert minutes.vde(early) > minutes.vde(late)
    assert minutes.drift_of_chunks(early) < minutes.drift_of_chunks(late)  # a bad end counts most
    assert minutes.drift_of_chunks([0.0, 0.25, 0.5]) == pytest.approx((0.25 + 2 * 0.5) / 3)  # finite at 0
    assert minutes.drift_of_chunks([-0.5, 0.25]) == 0.75  # and not negative below it
    assert minutes.drift_of_chunks([0.4]) == 0


def color_videos() -> dict[str, np.ndarray]:
    def picture(t: int) -> np.ndarray:
        return recipe.textured(2 * t, 64, 64).astype(float)

    def saturated(t: int) -> np.ndarray:
        gray = picture(t).mean(axis=-1, keepdims=True)
        return np.rint(gray + (picture(t) - gray) * (1 + 0.2 * (t // 10)))

    tinted = [picture(t) + t // 8 * np.array([6, -2, 3]) for t in range(32)]
    return {
        "tint4x8": np.stack(tinted).clip(0, 255).astype(np.uint8),
        "tex_saturating": np.stack([saturated(t) for t in range(40)]).clip(0, 255).astype(np.uint8),
    }


@pytest.mark.parametrize("name", ["tint4x8", "tex_saturating"])
def test_colors_by_window(name):
    video, known = color_videos()[name], OWN["colour_step_per_window"][name]
    assert int(video.sum()) == known["sum"]
    colors, window = minutes.frame_colors(video), known["window"]
    means = minutes.window_colors(colors, window)
    np.testing.assert_allclose(means[:, :3], known["window_mean_rgb"], atol=1e-9)
    np.testing.assert_allclose(means[:, 3], known["window_saturation"], atol=1e-9)
    assert minutes.color_step(colors, window) == pytest.approx(known["mean_step"], abs=1e-9)
    assert minutes.saturation_step(colors, window) == pytest.approx(known["saturation_step_mean"], abs=1e-9)
    (at_cuts,) = (values for key, values in known.items() if key.startswith("step_at_the_cut"))
    assert minutes.seam_color_step(colors, window) == pytest.approx(np.mean(at_cuts), abs=1e-9)


def test_a_video_of_one_window_has_no_steps():
    with pytest.raises(ValueError, match="between windows of 8 frames: got 15, give longer videos"):
        minutes.color_step(np.zeros((15, 4)), 8)
