"""Folders of videos through VBench's dimensions: one pass, variants, notes, resume, and its own code's traps."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from metrics.evaluation import measure
from metrics.evaluation.cache import FeatureCache, MemoryCache
from metrics.evaluation.measure import FolderReader, Measure, SideValues, choose_measures, measure_videos
from metrics.evaluation.result import Result, compare
from metrics.networks.folder import WeightsFolder
from metrics.networks.vision import VisionFeatures, shapes_of, with_tensors
from metrics.networks.vit import Dino
from metrics.temporal.frame_difference import temporal_flickering
from metrics.temporal.raft import Raft
from metrics.vbench import dimensions, folder, formulas
from metrics.vbench.bridge import export_videos, import_results
from metrics.vbench.dimensions import Setting
from metrics.vbench.folder import measure_folders, scores_of
from metrics.vbench.long import clips_of, lengthen
from metrics.videos import vision as inputs
from metrics.videos.read import list_videos
from tests.metrics import recipes2026 as recipe
from tests.metrics.video_files import write_lossless, write_xvid

TINY = partial(Dino, width=48, depth=1, heads=3)


def tiny() -> VisionFeatures:
    generator = torch.Generator().manual_seed(0)
    tensors = {name: torch.randn(shape, generator=generator) for name, shape in shapes_of(TINY).items()}
    return VisionFeatures("tiny:0", with_tensors(TINY, tensors), inputs.dino_input, "0" * 64, "unrecognised", frames=1)


@pytest.fixture
def videos(tmp_path) -> Path:
    place = tmp_path / "videos"
    place.mkdir()
    for name in ("noise8", "gradient12", "cut16"):
        write_lossless(place / f"{name}.mkv", recipe.videos()[name])
    return place


def test_scores_per_video_and_pooled_stand_side_by_side(videos):
    network = tiny()
    dimension = dimensions.consistency_of("subject_consistency", network)
    measured = measure_videos(list_videos(videos), [dimension], FolderReader())
    frames = [formulas.consistency(network.rows(recipe.videos()[n])) for n in ("cut16", "gradient12", "noise8")]
    plain, compat = scores_of(measured, compat=False), scores_of(measured, compat=True)
    np.testing.assert_allclose(measured.values["subject_consistency"], [f.mean() for f in frames], atol=1e-6)
    over_frames = float(np.concatenate(frames).mean())
    assert plain["subject_consistency"].value == pytest.approx(np.mean([f.mean() for f in frames]), abs=1e-6)
    assert plain["subject_consistency_pooled"].value == pytest.approx(over_frames, abs=1e-6)
    assert compat["subject_consistency"].value == pytest.approx(over_frames, abs=1e-6)
    assert compat["subject_consistency_per_video"] == plain["subject_consistency"]
    least, most = formulas.LEADERBOARD["subject_consistency"]
    scaled = (plain["subject_consistency"].value - least) / (most - least)
    assert plain["subject_consistency_scaled"].value == pytest.approx(scaled)
    assert not any("total" in name for name in plain)


def test_pooled_scores_compare_as_what_they_are_and_not_as_means_of_videos():
    def measured(last: float) -> Result:
        frames = [np.full(length, value) for length, value in ((3, 0.9), (30, 0.8), (100, last))]
        means = {"subject_consistency": [float(each.mean()) for each in frames]}
        scores = scores_of(SideValues(values=means, parts={"subject_consistency": frames}), compat=True)
        return Result(scores, {}, {"fake": {"names_sha256": "a"}}, means)

    first, second = measured(0.7), measured(0.8)
    difference = compare(first, second)["subject_consistency"]
    assert difference.value == pytest.approx(0.1 * 100 / 133)  # of the frames, where a third of the videos changed
    assert difference.low < difference.value < difference.high
    assert compare(first, second)["subject_consistency_per_video"].value == pytest.approx(0.1 / 3)


def test_a_video_is_decoded_once_and_a_second_run_not_at_all(videos, tmp_path, monkeypatch):
    blocks = []
    network = replace(tiny(), to_input=lambda frames: blocks.append(len(frames)) or inputs.dino_input(frames))
    both = [
        dimensions.consistency_of("subject_consistency", network),
        dimensions.loaders(Setting(WeightsFolder(None)))["temporal_flickering"](),
    ]
    decoded = []
    stream = measure.stream_frames
    monkeypatch.setattr(measure, "stream_frames", lambda video, *how: decoded.append(video.name) or stream(video, *how))
    with FeatureCache(tmp_path / "cache.sqlite") as cache:
        first = measure_videos(list_videos(videos), both, FolderReader(cache=cache))
        assert decoded == ["cut16.mkv", "gradient12.mkv", "noise8.mkv"]
        assert sum(blocks) == 36
        again = measure_videos(list_videos(videos), both, FolderReader(cache=cache))
    assert (len(decoded), sum(blocks)) == (3, 36)
    assert again.values == first.values


def test_progress_counts_what_the_cache_had_and_not_what_cannot_be_read(videos):
    (videos / "a.mkv").write_bytes(b"no video")
    flickering = [dimensions.loaders(Setting(WeightsFolder(None)))["temporal_flickering"]()]
    seen = []
    reader = FolderReader(allow_gaps=True, cache=MemoryCache(), report=lambda side, progress: seen.append(progress))
    for kept in (0, 3):
        measure_videos(list_videos(videos), flickering, reader)
        assert (seen[-1].done, seen[-1].total, seen[-1].kept) == (4, 4, kept)


def test_flickering_is_what_the_metric_on_arrays_gives(videos):
    result = measure_folders({"fake": videos}, Setting(WeightsFolder(None)))
    expected = [temporal_flickering(recipe.videos()[n][None]).value for n in ("cut16", "gradient12", "noise8")]
    np.testing.assert_allclose(result.values["temporal_flickering"], expected, atol=1e-7)
    assert result.scores["temporal_flickering"].low < result.scores["temporal_flickering"].value
    assert len([note for note in result.notes if note.startswith("not measured: ")]) == 7
    assert any("subject_consistency (DINO ViT-B/16 needs dino_vitbase16_pretrain.pth" in n for n in result.notes)
    assert any("motion_smoothness needs AMT-S" in note for note in result.notes)
    assert result.manifest["variant"] == {
        "pooling": "videos",
        "length": "short",
        "imaging": "longer",
        "prompts_sha256": None,
        "compat": False,
    }


def test_what_is_asked_for_by_name_is_measured_or_refused(videos):
    with pytest.raises(ValueError, match=r"subject_consistency cannot be measured: .* needs dino_vitbase16_pretrain"):
        measure_folders({"fake": videos}, Setting(WeightsFolder(None)), wanted=["subject_consistency"])
    with pytest.raises(
        ValueError,
        match="overall_consistency cannot be measured: overall_consistency compares videos with their prompts",
    ):
        measure_folders({"fake": videos}, Setting(WeightsFolder(None)), wanted=["overall_consistency"])
    with pytest.raises(ValueError, match="there is no measure 'color' here: it is one of subject_"):
        measure_folders({"fake": videos}, Setting(WeightsFolder(None)), wanted=["color"])


def test_real_video_has_rows_of_its_own(videos, tmp_path):
    still = tmp_path / "still"
    still.mkdir()
    np.save(still / "a.npy", recipe.videos()["still8"])
    result = measure_folders({"real": still, "fake": videos}, Setting(WeightsFolder(None)))
    assert result.scores["temporal_flickering_real"].value == 1
    assert result.scores["temporal_flickering"].value < 1
    assert result.manifest["real"]["videos"] == 1
    assert result.manifest["real"]["content_sha256"] != result.made_with["fake"]["content_sha256"]


def test_short_videos_are_said_or_refused(tmp_path):
    np.save(tmp_path / "one.npy", recipe.videos()["still8"][:1])
    with pytest.raises(ValueError, match=r"one\.npy has 1 frames, temporal_flickering needs 2"):
        measure_folders({"fake": tmp_path}, Setting(WeightsFolder(None)), wanted=["temporal_flickering"])
    with pytest.raises(ValueError, match="nothing can be measured"):
        measure_folders({"fake": tmp_path}, Setting(WeightsFolder(None)))


@pytest.fixture
def still_flow(monkeypatch):
    """RAFT that sees nothing move, wherever its file would be."""
    raft = Raft(torch.nn.Identity(), "still")
    monkeypatch.setattr(Raft, "padded", lambda self, a, b: np.zeros((len(a), *a.shape[1:3], 2), np.float32))
    monkeypatch.setattr(dimensions, "load_raft", lambda path, **options: raft)
    monkeypatch.setattr(WeightsFolder, "file", lambda self, checkpoint: Path("raft-things.pth"))


def test_frames_too_small_for_raft_are_refused_and_still_by_vbench(tmp_path, still_flow):
    np.save(tmp_path / "small.npy", recipe.videos()["cut16"])
    with pytest.raises(ValueError, match=r"small\.npy: RAFT needs 128 pixels a side, got 96 x 128"):
        measure_folders({"fake": tmp_path}, Setting(WeightsFolder(None)), wanted=["dynamic_degree"])
    place = tmp_path / "mp4"
    place.mkdir()
    write_xvid(place / "small.mp4", recipe.videos()["cut16"], codec="libx264")
    result = measure_folders({"fake": place}, Setting(WeightsFolder(None), compat=True), wanted=["dynamic_degree"])
    assert result.scores["dynamic_degree"].value == 0


def test_two_frames_move_by_vbench_only(tmp_path, still_flow):
    two = np.stack([recipe.textured(0, 128, 128)] * 2)
    write_xvid(tmp_path / "two.mp4", two, codec="libx264", b_frames=0)
    info = list_videos(tmp_path)[0].probe()
    assert info.fps == 25
    chosen, _ = choose(compat=True, info=info)
    assert moves(chosen[0], info, [0.0])
    with pytest.raises(ValueError, match="one frame is left at 8 a second, motion needs two"):
        choose(compat=False, info=info)
    slow = info._replace(fps=8.0)
    chosen, _ = choose(compat=False, info=slow)
    assert not moves(chosen[0], slow, [0.0])


def choose(*, compat: bool, info) -> tuple[list[Measure], list[str]]:
    of_dimensions = dimensions.loaders(Setting(WeightsFolder(None), compat=compat))
    return choose_measures(of_dimensions, ["dynamic_degree"], [("two.mp4", info)])


def moves(dimension: Measure, info, steps: list[float]) -> bool:
    return bool(dimension.score(np.array(steps)[:, None], info, ""))


def test_vbench_takes_pictures_for_videos_of_one_frame_and_skips_other_kinds(tmp_path):
    from PIL import Image

    Image.fromarray(recipe.textured(0)).save(tmp_path / "picture.png")
    write_lossless(tmp_path / "video.mkv", recipe.videos()["noise8"])
    write_xvid(tmp_path / "a cat-0.mp4", recipe.videos()["still8"], codec="libx264")
    listed = folder.list_as_vbench(tmp_path)
    assert [video.name for video in listed] == ["a cat-0.mp4", "picture.png"]
    assert [video.probe().frames for video in listed] == [8, 1]


def test_overall_consistency_needs_a_prompt_for_each_video(videos, monkeypatch):
    monkeypatch.setattr(WeightsFolder, "file", lambda self, checkpoint: Path("viclip.pth"))
    first = replace(tiny(), frames=None, to_input=lambda clip: inputs.dino_input(clip[:1]))
    monkeypatch.setattr(WeightsFolder, "viclip", first)
    vector = np.ones(48, np.float32)
    monkeypatch.setattr(dimensions, "viclip_texts", lambda weights, prompts: dict.fromkeys(prompts, vector))
    prompts = {f"{name}.mkv": "a cat" for name in ("noise8", "gradient12")}
    with pytest.raises(ValueError, match=r"cut16\.mkv has no prompt: add it to the file of prompts"):
        measure_folders({"fake": videos}, Setting(WeightsFolder(None), prompts), wanted=["overall_consistency"])
    (videos / "cut16.mkv").unlink()
    result = measure_folders({"fake": videos}, Setting(WeightsFolder(None), prompts), wanted=["overall_consistency"])
    middle = recipe.videos()["gradient12"][inputs.middle_frames(12)]
    row = tiny().rows(middle)[0]
    expected = float(row @ vector / np.linalg.norm(row) / np.linalg.norm(vector))
    assert result.values["overall_consistency"][0] == pytest.approx(expected, abs=1e-5)
    assert result.manifest["variant"]["prompts_sha256"] is not None


def test_export_writes_what_vbench_reads_and_never_its_prompts(tmp_path):
    source = tmp_path / "videos"
    source.mkdir()
    for name in ("one", "two"):
        write_xvid(source / f"{name}.mp4", recipe.videos()["still8"], codec="libx264")
    info = tmp_path / "VBench_full_info.json"
    info.write_text(json.dumps([{"prompt_en": "a dog"}, {"prompt_en": "a cat"}]))
    prompts = {"one.mp4": "a cat", "two.mp4": "a cat"}
    result = export_videos(list_videos(source), prompts, tmp_path / "out", info)
    assert sorted(path.name for path in (tmp_path / "out" / "videos").iterdir()) == ["a cat-0.mp4", "a cat-1.mp4"]
    record = json.loads((tmp_path / "out" / "export.json").read_text())
    assert record["prompt_numbers"] == [1]
    assert record["videos"] == {"one.mp4": "a cat-0.mp4", "two.mp4": "a cat-1.mp4"}
    assert "a dog" not in "".join(path.read_text() for path in (tmp_path / "out").glob("*.json"))
    assert result.manifest["protocol"] == "vbench-export"
    for other, message in (
        ({"one.mp4": "a cat"}, r"two\.mp4 has no prompt as text"),
        ({"one.mp4": "a/cat", "two.mp4": "b"}, "'a/cat' cannot be: shorten it"),
    ):
        with pytest.raises(ValueError, match=message):
            export_videos(list_videos(source), other, tmp_path / "other")
    with pytest.raises(ValueError, match="is there already: --export writes a new folder"):
        export_videos(list_videos(source), prompts, tmp_path / "out")
    assert not (tmp_path / "other").exists()


def test_import_reads_vbenchs_results_and_sees_how_they_were_pooled(tmp_path):
    def videos_of(*values):
        return [{"video_path": f"v/{i}.mp4", "video_results": value} for i, value in enumerate(values)]

    path = tmp_path / "results_eval_results.json"
    results = {
        "subject_consistency": [0.83, videos_of(0.9, 0.8)],
        "imaging_quality": [0.48, videos_of(46.0, 50.0)],
        "dynamic_degree": [0.5, videos_of(True, False)],
    }
    path.write_text(json.dumps(results))
    result = import_results(path)
    pooling = result.manifest["variant"]["pooling"]
    assert pooling == {
        "subject_consistency": "frames of all videos",
        "imaging_quality": "videos",
        "dynamic_degree": "videos",
    }
    subject = result.scores["subject_consistency:vbench-import"]
    assert (subject.value, subject.n, subject.low) == (0.83, 2, None)
    assert result.scores["subject_consistency_per_video:vbench-import"].value == pytest.approx(0.85)
    assert result.values["subject_consistency_per_video:vbench-import"] == [0.9, 0.8]
    assert "subject_consistency:vbench-import" not in result.values  # whose mean it is not
    imaging = result.scores["imaging_quality:vbench-import"]
    assert imaging.low < 0.48 < imaging.high
    assert result.values["imaging_quality:vbench-import"] == [0.46, 0.5]
    assert result.scores["subject_consistency_scaled:vbench-import"].value == pytest.approx((0.83 - 0.1462) / 0.8538)
    for wrong in ([0.83, []], [float("nan"), [{"video_results": 0.5}]]):
        path.write_text(json.dumps({"subject_consistency": wrong}))
        with pytest.raises(ValueError, match="holds no results of VBench: subject_consistency has no set score"):
            import_results(path)


@pytest.mark.parametrize(("frames", "ends"), [(3, [(0, 3)]), (8, [(0, 4), (4, 8)]), (11, [(0, 4), (4, 8), (7, 11)])])
def test_a_long_video_is_the_mean_of_its_clips_of_two_seconds(tmp_path, frames, ends):
    video = np.random.default_rng(0).integers(0, 256, (frames, 8, 8, 3), dtype=np.uint8)
    write_lossless(tmp_path / "video.mkv", video, fps=2)
    place = list_videos(tmp_path)
    assert clips_of(place[0].probe()) == ends
    read = place[0].read()
    result = measure_folders(
        {"fake": tmp_path}, Setting(WeightsFolder(None), long=True), wanted=["temporal_flickering"]
    )
    expected = np.mean([temporal_flickering(read[None, start:end]).value for start, end in ends])
    assert result.values["temporal_flickering"] == [pytest.approx(expected, abs=1e-7)]
    assert (result.manifest["protocol"], result.manifest["variant"]["length"][:4]) == ("vbench-long", "long")
    network = tiny()
    long = lengthen(dimensions.consistency_of("subject_consistency", network))
    measured = measure_videos(place, [long], FolderReader())
    expected = np.mean([formulas.consistency(network.rows(read[start:end])).mean() for start, end in ends])
    assert measured.values["subject_consistency"] == [pytest.approx(expected, abs=1e-6)]


def test_clips_of_seconds_need_a_frame_rate(tmp_path):
    np.save(tmp_path / "a.npy", recipe.videos()["still8"])
    with pytest.raises(ValueError, match="clips of 2 seconds need a frame rate"):
        measure_folders({"fake": tmp_path}, Setting(WeightsFolder(None), long=True), wanted=["temporal_flickering"])
