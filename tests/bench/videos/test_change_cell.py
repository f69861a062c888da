"""Videos whose prompt changes: what is measured of them, on real video and on planted faults."""

import numpy as np
import pytest

from bench.harness.job import Job
from bench.harness.suite_spec import override, plan
from bench.suites import SUITES
from bench.videos import change_cell
from bench.videos.change_cell import crossing, judge_changes, lag, new_shares, segments_seen
from vidrd.pocket.changes import attributes, continued, draw_changes, prompt_of, render_changes
from vidrd.pocket.world import TEST_SEEDS, caption, draw_scene, render
from vidrd.prompt_schedule import read_prompt

SEGMENT, FRAMES, VIDEOS = 20, 40, 6


@pytest.fixture(scope="module")
def scenes():
    return [draw_changes(seed, 2, SEGMENT) for seed in TEST_SEEDS[:VIDEOS]]


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    suite = override(SUITES["changes"], [f"videos={VIDEOS}", f"real_videos={5 * VIDEOS}", "device=cpu", "batch=1"])
    item = plan(suite, {})[0]
    assert item.reference
    folder = tmp_path_factory.mktemp("real")
    return Job(item.cell.values, folder, None, tuple(suite.measures))


@pytest.fixture(scope="module")
def real(job):
    return change_cell.run(job)


def test_real_video_of_a_change_goes_on_where_it_was(scenes):
    video = render_changes(scenes, SEGMENT, FRAMES)
    for made, (first, second) in zip(video, scenes, strict=True):
        assert np.array_equal(made[:SEGMENT], render([first], SEGMENT)[0])
        assert np.array_equal(made[SEGMENT:], render([second], SEGMENT, start=SEGMENT)[0])
        assert first.colour != second.colour
        assert first.action != second.action
        assert {first.shape, first.texture, first.background} == {second.shape, second.texture, second.background}
    assert read_prompt(prompt_of(scenes[0], SEGMENT)).texts == tuple(map(caption, scenes[0]))


def test_the_object_stays_in_its_place():
    left, right = (draw_scene(3, action=f"moving {side}", colour="red") for side in ("left", "right"))
    back = continued(right, left, 7)
    there, here = render([left], 1, start=7), render([back], 1, start=7)
    assert np.abs(there.astype(int) - here).max() <= 1
    assert np.array_equal(render([continued(left, left, 7)], 3, start=5), render([left], 3, start=5))


def test_many_captions_change_to_others():
    for seed in range(300):
        first, second = draw_changes(seed, 2, 16)
        assert not (second.shape == "circle" and second.texture == "plain" and second.action.startswith("rotating"))
        again = draw_changes(seed + 10**6, 2, 16, [attributes(first), attributes(second)])
        assert list(map(caption, again)) == [caption(first), caption(second)]


def test_the_measures_of_a_known_curve():
    step = (np.arange(33) >= 17).astype(float)[
        None
    ]  # windows of 8 frames; the one that begins at 16 has 20 in its middle
    assert lag(step, [20], 10) == 0
    assert lag((np.arange(33) >= 16).astype(float)[None], [20], 10) == 0
    assert lag((np.arange(33) >= 20).astype(float)[None], [20], 10) == 3
    assert lag((np.arange(33) >= 14).astype(float)[None], [20], 10) == -2
    assert lag(np.zeros((1, 33)), [20], 10) == 10
    assert crossing(step, [20], 10) == 0
    assert crossing(np.full((1, 33), 0.5), [20], 10) == 21


def test_shares_and_segments_of_known_logits():
    wanted = {name: np.zeros((1, 2), dtype=int) for name in ("shape", "texture", "background")}
    wanted |= {"colour": np.array([[0, 1]]), "action": np.array([[0, 2]])}
    logits = {name: np.zeros((1, 33, 3)) for name in wanted}
    for each in logits.values():
        each[..., 0] = 5  # all is as in the first segment
    logits["colour"][:, 16:] = (0, 5, 0)
    seen = segments_seen(logits, wanted, (0, 20), 40)
    assert {name: float(each[0]) for name, each in seen.items()} == {
        "own_colour": 1.0, "own_action": 0.5, "kept": 1.0, "old": 0.5
    }  # fmt: skip
    shares = new_shares(logits["colour"], wanted["colour"], [20])
    assert shares.shape == (1, 1, 33)
    assert np.allclose(shares[0, 0, [15, 16]], [1 / (1 + np.exp(5)), 1 / (1 + np.exp(-5))])


def test_real_video_shows_its_texts_in_time(real):
    value = {name: number.value for name, number in real.numbers.items()}
    assert value["own_colour"] > 0.95
    assert value["own_action"] > 0.8
    assert value["kept"] > 0.9
    assert value["old"] < 0.1
    assert abs(value["lag"]) < 1
    assert value["change_d"] > 0.2
    assert set(SUITES["changes"].measures) == set(real.numbers) | set(real.absent)


@pytest.mark.parametrize("fault", ["never", "late", "slow", "cut"])
def test_planted_faults_are_seen(fault, real, job, scenes):
    video = render_changes(scenes, SEGMENT, FRAMES)
    if fault == "never":
        video = render([each[0] for each in scenes], FRAMES)
    if fault == "late":
        video = np.concatenate([render([each[0] for each in scenes], 24), video[:, 24:]], axis=1)
    if fault == "slow":
        first, second = (render([each[k] for each in scenes], FRAMES).astype(float) for k in (0, 1))
        share = np.clip((np.arange(FRAMES) - 13.5) / 12, 0, 1)[:, None, None, None]
        video = np.round((1 - share) * first + share * second).astype(np.uint8)
    if fault == "cut":
        elsewhere = [draw_scene(10**6 + i, **attributes(each[1])) for i, each in enumerate(scenes)]
        other = render(elsewhere, SEGMENT)
        video = np.concatenate([video[:, :SEGMENT], other], axis=1)
    value = {name: number.value for name, number in judge_changes(video, scenes, job, job.folder).numbers.items()}
    was = {name: number.value for name, number in real.numbers.items()}
    assert {
        "never": value["old"] > 0.8 and value["lag"] > 8 and value["own_colour"] < 0.6,
        "late": 3 < value["lag"] < 5 and value["own_colour"] > 0.75,
        "slow": value["crossing"] > was["crossing"] + 0.5 and value["change_d"] < was["change_d"] - 0.3,
        "cut": value["change_d"] > was["change_d"] + 0.1,
    }[fault], (value["crossing"], was["crossing"], value["change_d"], was["change_d"], value["lag"])


def test_segments_that_are_too_short_are_refused():
    def why(segment, frames):
        words = [f"segment={segment}", f"frames={frames}", "method=vidrd"]
        return plan(override(SUITES["changes"], words), {})[-1].skip

    for segment, frames in ((10, 40), (20, 20), (20, 44)):  # of 44 frames the last segment has 4, and no window
        assert f"got segments of {segment} in {frames} frames" in why(segment, frames)
    assert why(20, 28) is why(20, 60) is None
