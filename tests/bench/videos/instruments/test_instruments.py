"""The suite `instruments`: damages are what they say, gauges are told by arithmetic, findings become tables."""

from pathlib import Path

import numpy as np
import pytest

from bench.harness.job import Job
from bench.harness.suite_spec import override, plan
from bench.results.records import Attempt, Cell, Number, Record
from bench.videos.instruments import matrix
from bench.videos.instruments.cell import effects_of, fewest, run, verdict
from bench.videos.instruments.damages import DAMAGES
from bench.videos.instruments.gauges import GAUGES, OF_VIDEOS
from bench.videos.instruments.instrument_suite import CLEAN, INSTRUMENT_SUITE, SIZES
from bench.videos.instruments.sources import SIDE, PocketVideos, RealVideos, content_of, long_enough, sources_of
from vidrd.pocket.world import TEST_SEEDS, draw_scene, render

SCENES = [draw_scene(seed) for seed in TEST_SEEDS[:4]]
PLAIN = render(SCENES, 40)
VALUES = {"videos": 16, "frames": 16, "seed": 0, "real": "pocket"}


def damaged(name: str, strength: float, frames: int = 16) -> np.ndarray:
    return DAMAGES[name].apply(PocketVideos(tuple(SCENES)), frames, strength, np.random.default_rng(0))


@pytest.mark.parametrize("name", DAMAGES)
def test_no_strength_is_no_damage_and_full_strength_is_one(name):
    np.testing.assert_array_equal(damaged(name, 0.0), PLAIN[:, :16])
    full = damaged(name, 1.0)
    assert full.shape == (4, 16, 32, 32, 3)
    assert (full == PLAIN[:, :16]).all() == (name == "wrong caption")


def test_damages_of_time_take_the_frames_that_they_say():
    def frames(times):
        return PLAIN[:, list(times)]

    np.testing.assert_array_equal(damaged("frozen", 1.0), frames([0] * 16))
    np.testing.assert_array_equal(damaged("frozen", 0.5), frames([*range(8), *[8] * 8]))
    np.testing.assert_array_equal(damaged("repeated", 1.0), frames([*range(8), *range(8)]))
    np.testing.assert_array_equal(damaged("mirrored", 1.0), frames([*range(9), *range(7, 0, -1)]))
    np.testing.assert_array_equal(damaged("mirrored", 1.0, 18), frames([*range(10), *range(8, 0, -1)]))
    np.testing.assert_array_equal(damaged("seam", 1.0), frames([*range(8), *range(16, 24)]))
    shuffled = damaged("shuffled", 1.0)
    assert not (shuffled == PLAIN[:, :16]).all()
    for video, clean in zip(shuffled, PLAIN[:, :16], strict=True):
        assert sorted(frame.tobytes() for frame in video) == sorted(frame.tobytes() for frame in clean)


def test_an_effect_is_told_by_as_many_videos_as_it_takes():
    assert fewest(2.0) == 16
    assert fewest(0.3) == 64
    assert fewest(-0.2) == 256
    assert fewest(0.1) is None
    assert fewest(float("inf")) == 16
    clean = {gauge: np.array([0.0, 1.0, 2.0]) for gauge in OF_VIDEOS}
    moved = {gauge: values + 3 for gauge, values in clean.items()}
    assert effects_of(clean, moved)["flicker"] == pytest.approx(3 / np.sqrt(2))
    still = {gauge: np.ones(3) for gauge in OF_VIDEOS}
    assert effects_of(still, still)["flicker"] == 0
    assert effects_of(still, {g: v * 2 for g, v in still.items()})["flicker"] == np.inf


def test_what_a_reader_takes_for_better():
    assert verdict("consistency", 1.0) == "better"
    assert verdict("fvd", 1.0) == "worse"


@pytest.fixture(scope="module")
def reference(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("clean")
    results = run(Job(VALUES | {"damage": CLEAN, "strength": 0.0}, folder, None))
    assert results.absent.keys() == GAUGES.keys()
    return folder


def test_a_frozen_video_is_told_and_taken_for_better_by_consistency(reference):
    results = run(Job(VALUES | {"damage": "frozen", "strength": 1.0}, reference, reference))
    assert results.numbers.keys() | results.absent.keys() == GAUGES.keys()
    assert results.numbers["consistency"].value == 16
    assert results.facts["consistency takes it for"] == "better"
    assert results.facts["flicker takes it for"] == "better"
    assert results.numbers["motion"].value == 16
    assert results.absent["fvd"].startswith("sets are compared by the spread of smaller ones: got 16")
    assert results.facts["motion takes it for"] == "worse"


def test_a_wrong_caption_is_told_by_alignment_alone(reference):
    results = run(Job(VALUES | {"damage": "wrong caption", "strength": 1.0}, reference, reference))
    assert results.numbers.keys() == {"action", "colour"}
    assert set(results.facts.values()) == {"worse"}


def record(damage: str, strength: float, told: dict[str, int], better: tuple[str, ...] = ()) -> Record:
    facts = {f"{gauge} takes it for": "better" if gauge in better else "worse" for gauge in told}
    numbers = {gauge: Number(float(n), "videos", "lower") for gauge, n in told.items()}
    cell = Cell("instrument", {"damage": damage, "strength": strength})
    return Record(cell, Attempt("ok"), numbers, facts=facts)


def test_findings_are_the_smallest_strengths_and_who_is_fooled():
    found = matrix.findings(
        [
            record("frozen", 0.5, {"motion": 64, "consistency": 256}, ("consistency",)),
            record("frozen", 1.0, {"motion": 16, "consistency": 16}, ("consistency",)),
            record("blur", 1.0, {"jitter": 64}),
        ]
    )
    assert found["frozen", "motion"].smallest == {16: 1.0, 64: 0.5, 256: 0.5}
    assert found["frozen", "motion"].fewest == 16
    assert found["frozen", "consistency"].fooled
    assert found["blur", "jitter"].smallest == {64: 1.0, 256: 1.0}
    assert found["blur", "motion"].smallest == {}
    text = matrix.table(found)
    assert "| `motion` | 1/0.5/0.5 |" in text
    assert "| `consistency` | **1/1/0.5** |" in text
    assert "-/1/1" in text
    best = dict(matrix.best_together(found, count=2))
    assert best[("jitter", "motion")] == 0
    assert ("jitter", "consistency") not in best  # which takes a frozen video for better
    svg = matrix.picture(found)
    assert svg.count(matrix.NAIVE) == 1
    assert svg.count("<rect") == 1 + 2 * len(GAUGES)


def test_of_several_seeds_most_decide():
    seeds = [{"motion": 16, "jitter": 64}, {"motion": 64}, {"motion": 256}]
    better = [("motion",), (), ()]
    of_seeds = [record("blur", 1.0, tell, fool) for tell, fool in zip(seeds, better, strict=True)]
    for order in (of_seeds, of_seeds[::-1]):
        results = matrix.findings(order)
        assert results["blur", "motion"].fewest == 64
        assert not results["blur", "motion"].fooled
        assert results["blur", "jitter"].smallest == {}  # one of three


def test_the_suite_has_every_damage_in_every_strength():
    assert set(INSTRUMENT_SUITE.axes["damage"]) == set(DAMAGES)
    assert INSTRUMENT_SUITE.fixed["videos"] == SIZES[-1]
    assert set(INSTRUMENT_SUITE.measures) == set(GAUGES)
    beyond = plan(override(INSTRUMENT_SUITE, ["damage=frozen", "strength=1,1.5"]), {})
    assert [item.skip is None for item in beyond] == [True, True, False]


CLIPS = np.random.default_rng(3).integers(0, 255, (33, 32, 20, 28, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    """A folder of clips: 33 that are long enough, and a short one."""
    folder = tmp_path_factory.mktemp("clips")
    np.save(folder / "clips.npy", CLIPS)
    np.save(folder / "short.npy", CLIPS[0, :31])
    return folder


@pytest.mark.parametrize("name", [name for name in DAMAGES if name != "wrong caption"])
def test_real_clips_are_damaged_alike(name):
    source = RealVideos(CLIPS[:4])
    rng = np.random.default_rng(0)
    np.testing.assert_array_equal(DAMAGES[name].apply(source, 16, 0.0, rng), CLIPS[:4, :16])
    full = DAMAGES[name].apply(source, 16, 1.0, rng)
    assert full.shape == (4, 16, 20, 28, 3)
    assert not (full == CLIPS[:4, :16]).all()


def test_what_real_clips_have_in_place_of_scenes():
    source = RealVideos(CLIPS[:4])
    fade = DAMAGES["identity"].apply(source, 16, 1.0, np.random.default_rng(0))
    np.testing.assert_array_equal(fade[3, -1], CLIPS[0, 15])
    half = DAMAGES["missing half"].apply(source, 16, 0.5, np.random.default_rng(0))
    np.testing.assert_array_equal(half, CLIPS[[0, 1, 0, 1], :16])
    fast = DAMAGES["speed"].apply(source, 16, 1.0, np.random.default_rng(0))
    np.testing.assert_array_equal(fast, CLIPS[:4, 0:32:2])


def test_real_clips_are_halved_and_squared(clips, tmp_path):
    source, make_others = sources_of(str(clips), 256, 16, seed=0)
    others = make_others()
    assert (len(source), len(others)) == (16, 16)
    assert others.shape == (16, 16, SIDE, SIDE, 3)
    every = np.concatenate([source.clean(16), others])
    assert len({video.tobytes() for video in every}) == 32
    (tmp_path / "list.txt").write_text(f"{clips}/clips.npy\n\n")
    listed, _ = sources_of(str(tmp_path / "list.txt"), 256, 16, seed=0)
    np.testing.assert_array_equal(listed.clean(16), source.clean(16))


def test_other_real_clips_are_other_cells_and_broken_ones_are_left_out(clips, tmp_path):
    before = content_of(str(clips))
    (tmp_path / "mine").mkdir()
    np.save(tmp_path / "mine" / "clips.npy", 255 - CLIPS)
    np.save(tmp_path / "mine" / "short.npy", CLIPS[0, :31])
    assert content_of(str(tmp_path / "mine")) != before
    (tmp_path / "mine" / "broken.mp4").write_bytes(b"no video")
    assert len(long_enough(str(tmp_path / "mine"), 32)) == len(CLIPS)


def test_real_clips_stand_next_to_the_pocket_world(clips):
    suite = override(INSTRUMENT_SUITE, [f"real={clips}", "damage=blur,wrong caption", "strength=1"])
    items = plan(suite, {})
    rows = [(item.cell.values["real"], item.cell.values["damage"], item.skip is None) for item in items]
    assert sorted(rows) == sorted(
        (source, damage, source == "pocket" or damage != "wrong caption")
        for source in ("pocket", str(clips))
        for damage in (CLEAN, "blur", "wrong caption")
    )
    before = {k: v for k, v in items[0].cell.values.items() if k != "real"}
    assert items[0].cell.id == Cell("instrument", before).id, "cells of the pocket world are what they were"
    few = plan(override(INSTRUMENT_SUITE, [f"real={clips / 'short.npy'}", "damage=blur", "strength=1"]), {})
    assert "real clips are 32 or more of 32 frames: got 0" in few[-1].skip


def test_real_clips_are_told_from_damaged_ones_by_what_needs_no_caption(clips, tmp_path):
    values = VALUES | {"real": str(clips), "damage": CLEAN, "strength": 0.0}
    first = run(Job(values, tmp_path, None))
    assert first.facts["videos"] == "16"
    results = run(Job(values | {"damage": "frozen", "strength": 1.0}, tmp_path, tmp_path))
    assert results.numbers.keys() | results.absent.keys() == GAUGES.keys()
    assert results.numbers["flicker"].value == 16
    assert results.absent["action"] == "captions of real clips are not known here"


def test_findings_are_of_one_source():
    of_clips = record("blur", 1.0, {"jitter": 16})
    cell = Cell("instrument", {**of_clips.cell.values, "real": "clips"})
    records = [record("blur", 1.0, {"motion": 64}), Record(cell, of_clips.attempt, of_clips.numbers)]
    assert matrix.findings(records)["blur", "motion"].fewest == 64
    assert matrix.findings(records)["blur", "jitter"].fewest is None
    assert matrix.findings(records, "clips")["blur", "jitter"].fewest == 16
