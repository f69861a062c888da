import json
import shutil
import time

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from baselines.latent_frames import FrameRule
from bench.harness.job import Job
from bench.harness.suite_spec import override, plan
from bench.methods import METHODS
from bench.results.records import InvalidError
from bench.suites import SUITES
from bench.videos import cell as cell_module
from bench.videos import generator, quality
from bench.videos.columns import FLOW_MEASURES, MEASURES
from metrics.networks.pocket import NETWORKS, describe
from metrics.temporal.flow_metrics import boomerang, dynamic_degree
from metrics.temporal.frame_difference import saturation_drift
from metrics.temporal.seams import seam_ratio
from vidrd.checkpoints import sha256
from vidrd.pocket.world import ATTRIBUTES, TEST_SEEDS, draw_scene, render
from vidrd.schedule import Schedule
from vidrd.video import to_uint8


class ToyDenoiser:
    clip, longest = 8, None

    def __init__(self, prompts, guidance, dtype):
        self.branches = 1 if guidance == 1 else 2
        self.text = torch.tensor([len(prompt) / 40 for prompt in prompts], dtype=dtype).reshape(-1, 1, 1, 1, 1)

    def __call__(self, latents, timesteps):
        return 0.5 * latents + self.text.repeat(len(latents) // len(self.text), 1, 1, 1, 1)


class ToyModel:
    rule, denoisers, pipe, fps, decodes_clips = FrameRule(1), (), None, 8.0, True

    def __init__(self, dtype):
        self.dtype = dtype

    def latent_shape(self, height, width):
        return (3, 2, 2)

    def denoiser(self, prompts, *, negative, guidance):
        return ToyDenoiser(prompts, guidance, self.dtype)

    def schedule(self, steps, solver, *, shape):
        config = {"beta_schedule": "scaled_linear", "clip_sample": False, "prediction_type": "v_prediction"}
        return Schedule.ddim(config, steps)

    def decode(self, latents, *, clip):
        return to_uint8(latents.float().repeat_interleave(16, 3).repeat_interleave(16, 4) / 3)


@pytest.fixture(scope="module")
def judges(tmp_path_factory):
    """A folder with judges that learned nothing."""
    folder = tmp_path_factory.mktemp("judges")
    for name, file in (("pocket-i3d", "i3d"), ("pocket-c3d", "c3d")):
        torch.manual_seed(0)
        classes = ATTRIBUTES if file == "i3d" else {"action": ATTRIBUTES["action"]}
        network = NETWORKS[name]({head: len(names) for head, names in classes.items()})
        save_file(network.state_dict(), folder / f"{file}.safetensors", describe(name, classes))
    files = {path.name: {"sha256": sha256(path)} for path in folder.glob("*.safetensors")}
    (folder / "card.json").write_text(json.dumps({"files": files}))
    return folder


@pytest.fixture(scope="module")
def real_cells(tmp_path_factory):
    """The folder in which each cell of real video that was done lies under its id."""
    return tmp_path_factory.mktemp("real")


@pytest.fixture
def cell(tmp_path, monkeypatch, judges, real_cells):
    """Does a cell of the smoke suite with a toy pipeline and judges that learned nothing: overrides -> CellResults."""
    monkeypatch.setattr(generator, "load_model", lambda name, *, dtype, **_: ToyModel(dtype))
    monkeypatch.setattr("metrics.networks.pocket.CLASSIFIERS", judges)

    def do(*assignments, suite="smoke"):
        named = {word.partition("=")[0] for word in assignments}
        small = ["device=cpu", "videos=4", "real_videos=8", "steps=4", "batch=2"]
        overrides = [word for word in small if word.partition("=")[0] not in named]
        suite = override(SUITES[suite], [*overrides, *assignments])
        planned = plan(suite, {})
        for item in planned:
            folder = (real_cells if item.reference else tmp_path) / item.cell.id
            if item.reference and folder.exists() and len(planned) > 1:
                continue
            folder.mkdir(exist_ok=True)
            reference = None if item.reference else real_cells / planned[0].cell.id
            measured = cell_module.run(Job(item.cell.values, folder, reference, tuple(suite.measures)))
        return measured, folder

    return do


def test_every_measure_is_a_number_or_says_why_not(cell):
    for assignment in ("method=vidrd", "method=direct"):
        measured, _ = cell(assignment)
        assert set(measured.numbers) | set(measured.absent) == set(MEASURES)
        assert not set(measured.numbers) & set(measured.absent)
        assert all(measured.absent.values())


def test_measures_of_flow_are_taken_where_a_suite_asks_for_them(cell):
    small = ("method=vidrd", "frames=24", "equal=steps", "steps=2")
    measured, _ = cell(*small, suite="samplers-steps")
    assert set(measured.numbers) | set(measured.absent) == {*MEASURES, *FLOW_MEASURES}
    assert all(measured.numbers[name].n == len(measured.samples[name]) == 4 for name in FLOW_MEASURES)
    assert -1 <= measured.numbers["boomerang"].value <= 1
    measured, _ = cell("method=direct", *small[1:], suite="samplers-steps")
    assert {"dynamic_degree", "saturation_drift"} <= set(measured.numbers)
    for name in ("seam_w", "seam_df", "boomerang"):
        assert measured.absent[name] == "direct has no seams, it makes the whole video in one window"


def test_what_flow_says_is_what_the_metrics_say():
    scenes = [draw_scene(TEST_SEEDS[i]) for i in range(2)]
    clip = render(scenes, 8)
    videos = np.concatenate([clip, clip[:, ::-1]], axis=1)  # turned round at frame 8
    results = quality.QualityResults()
    quality._by_flow(results, videos, [8], "no seams")
    value = {name: number.value for name, number in results.numbers.items()}
    assert value["boomerang"] == boomerang(videos, [8]).value > 0.3
    assert value["seam_w"] == pytest.approx(seam_ratio(videos, [8], signal="W").value)
    assert value["seam_df"] == pytest.approx(seam_ratio(videos, [8], signal="dF").value)
    assert value["dynamic_degree"] == dynamic_degree(videos).value
    assert value["saturation_drift"] == pytest.approx(saturation_drift(videos).value)


@pytest.mark.parametrize(
    ("least", "most", "names"),
    [
        (0.0, 1.0, ("flicker", "jitter", "motion", "duplicates", "dynamic_degree", *ATTRIBUTES)),
        (-1.0, 1.0, ("mirror", "repeat", "boomerang", "saturation_drift")),
        (0.0, np.inf, ("seam_off",)),
    ],
)
def test_no_interval_of_a_cell_leaves_the_range_of_its_measure(least, most, names):
    results = quality.QualityResults()
    for name in names:
        results.mean(name, [least, least, least + 0.1])  # a t-interval would reach below
        assert results.numbers[name].low == least < results.numbers[name].value < results.numbers[name].high
        if most < np.inf:
            results.mean(name, [most, most, most - 0.1])
            assert results.numbers[name].low < results.numbers[name].value < results.numbers[name].high == most


def test_a_judge_other_than_its_card_describes_judges_nothing(cell, judges, tmp_path, monkeypatch):
    shutil.copytree(judges, tmp_path / "judges")
    card = json.loads((judges / "card.json").read_text())
    card["files"]["c3d.safetensors"]["sha256"] = "0" * 64
    (tmp_path / "judges" / "card.json").write_text(json.dumps(card))
    monkeypatch.setattr("metrics.networks.pocket.CLASSIFIERS", tmp_path / "judges")
    with pytest.raises(ValueError, match=r"c3d\.safetensors"):
        cell("method=independent")


def test_a_method_warms_up_on_steps_that_it_can_do(cell):
    measured, _ = cell("method=fifo", "compat=official", "steps=8", "frames=16", suite="compat")  # whole clips of 8
    assert measured.numbers["steps"].value == 8


def test_seams_are_judged_where_there_are_seams(cell):
    measured, _ = cell("method=direct")
    assert measured.absent["seam_d"] == "direct has no seams, it makes the whole video in one window"
    measured, _ = cell("method=vidrd", "frames=24")
    assert {"seam_d", "seam_a", "duplicates", "mirror", "repeat"} <= set(measured.numbers)
    measured, _ = cell("method=vidrd", "frames=16")
    assert "repeat after 16: got 16 frames" in measured.absent["repeat"]


def test_cells_are_paired_the_first_clip_is_the_same_whatever_the_method(cell):
    videos = []
    for method in ("vidrd", "independent", "independent-shared"):
        _, folder = cell(f"method={method}")
        videos.append(np.load(folder / "videos.npz")["videos"])
    assert (videos[0][:, :8] == videos[1][:, :8]).all()
    assert (videos[1][:, :8] == videos[2][:, :8]).all()
    assert (videos[0][:, 8:] != videos[1][:, 8:]).any()
    assert not np.array_equal(videos[0][0, 0], videos[0][1, 0])


def test_batches_change_no_video_and_each_is_one_repeat(cell):
    pairs, _ = cell("batch=2", "method=vidrd")
    fours, _ = cell("batch=4", "method=vidrd")
    assert pairs.facts["output_sha256"] == fours.facts["output_sha256"]
    assert len(pairs.samples["denoise_seconds"]) == 2
    assert len(fours.samples["denoise_seconds"]) == 1
    assert len(fours.samples["warm_up_seconds"]) >= 2
    assert len(pairs.samples["step_seconds"]) == 2 * 2 * 4  # batches, clips, steps
    assert pairs.numbers["seconds_per_frame"].n == 2
    stages = [pairs.samples[f"{stage}_seconds"] for stage in ("text", "denoise", "decode")]
    rest = [total - sum(parts) for total, *parts in zip(pairs.samples["total_seconds"], *stages, strict=True)]
    assert pairs.samples["residual_seconds"] == pytest.approx(rest, abs=1e-12)
    assert min(rest) >= 0
    other, _ = cell("batch=2", "method=vidrd", "seed=1")
    assert other.facts["output_sha256"] != pairs.facts["output_sha256"]


def test_frame_evaluations_count_both_branches_of_guidance(cell):
    guided, _ = cell("method=vidrd", "frames=20")
    assert guided.numbers["fe_per_frame"].value == 3 * 8 * 4 * 2 / 20  # clips, frames of each, steps, branches
    plain, _ = cell("method=vidrd", "frames=20", "guidance=1")
    assert plain.numbers["fe_per_frame"].value == 3 * 8 * 4 / 20


def test_equal_fe_solves_for_the_steps_of_each_method(cell):
    taken = {}
    for method in ("independent", "codenoise", "fifo"):
        measured, _ = cell(f"method={method}", "equal=fe", "frames=24", "steps=20")
        taken[method] = measured.numbers["steps"].value
        assert measured.numbers["fe_per_frame"].value <= 20 * 2
    assert taken["independent"] == 20
    assert taken["fifo"] < taken["codenoise"] == 12


def test_equal_seconds_measures_both_and_says_what_it_took(cell, monkeypatch):
    runs = []

    def make(self, prompts, first, steps):
        videos, cost = honest(self, prompts, first, steps)
        runs.append((self.method.summary, steps))
        fe = self.method.plan(self.request(first, len(prompts), 1, None), steps, self.options).fe
        return videos, cost._replace(seconds=cost.seconds | {"total": 1.0 + fe})

    honest = generator.Generator.make
    monkeypatch.setattr(generator.Generator, "make", make)
    measured, _ = cell("method=codenoise", "equal=seconds", "frames=24", "steps=20")
    assert measured.numbers["steps"].value == 12  # 5 windows of 8 frames a step, where independent clips take 3
    assert {steps for summary, steps in runs if summary == METHODS["independent"].summary} == {1, 2, 4}


def test_the_cold_call_is_the_first_of_all(cell, monkeypatch):
    calls = []

    def make(self, prompts, first, steps):
        videos, cost = honest(self, prompts, first, steps)
        calls.append(steps)
        return videos, cost._replace(seconds=cost.seconds | {"total": 1000.0 if len(calls) == 1 else steps})

    honest = generator.Generator.make
    monkeypatch.setattr(generator.Generator, "make", make)
    for equal in ("steps", "seconds"):
        calls.clear()
        measured, _ = cell("method=codenoise", f"equal={equal}")
        assert (calls[0], measured.numbers["cold_seconds"].value) == (2, 1000)


def test_what_is_given_costs_no_time_and_counts_for_no_distance(monkeypatch):
    few = ["method=vidrd", "equal=steps", "steps=1", "frames=20", "given=16", "videos=3", "batch=1", "device=cpu"]
    values = plan(override(SUITES["continuation"], few), {})[-1].cell.values
    maker, late = generator.Generator(values), 1.0  # s
    monkeypatch.setattr(generator, "render", lambda *given: [time.sleep(late), render(*given)][1])
    videos, cost = maker.make(["a red plain star growing on a navy background"], 0, 1)
    scenes = [draw_scene(TEST_SEEDS[0])]
    assert np.array_equal(videos[:, :16], render(scenes, 16))
    assert 2 * cost.seconds["total"] - sum(cost.seconds.values()) < late  # its encoding counts, its rendering does not
    results, source = quality.QualityResults(), render(scenes, 20)
    source[:, 16:] ^= 16  # 16 gray levels away wherever something was made
    quality._from_source(results, np.concatenate([source] * 3), scenes * 3, 16, 8)
    assert results.numbers["near"].value == results.numbers["far"].value == 16


def test_every_noise_goes_all_the_way_and_passes_are_counted(cell):
    hashes = {}
    for noise in ("iid", "shared", "mixed", "progressive", "rescheduled", "freeinit"):
        measured, _ = cell("method=independent", f"noise={noise}")
        hashes[noise] = measured.facts["output_sha256"]
        assert measured.numbers["fe_per_frame"].value == 4 * 2 * (3 if noise == "freeinit" else 1)
    assert len(set(hashes.values())) == len(hashes)


def test_a_budget_joins_windows_and_changes_no_video(cell):
    alone, _ = cell("method=codenoise", "frames=24")
    joined, _ = cell("method=codenoise", "frames=24", "budget=1000")
    assert joined.facts["output_sha256"] == alone.facts["output_sha256"]
    assert joined.numbers["fe_per_frame"] == alone.numbers["fe_per_frame"]


def test_quality_is_told_by_place_and_seams_by_kind(cell):
    measured, _ = cell("method=vidrd", "frames=24")
    assert {"fvd_inside", "fvd_across", "drift", "seam_off"} <= set(measured.numbers)
    assert measured.numbers["fvd_inside"].n == measured.numbers["fvd_across"].n == measured.numbers["drift"].n == 4
    assert measured.facts["seams"] == "mirror at 8, mirror at 16"
    assert measured.numbers["seam_off"].value >= abs(measured.numbers["seam_d"].value)
    measured, _ = cell("method=direct", "frames=24")
    assert measured.absent["fvd_across"] == "direct has no seams, it makes the whole video in one window"
    assert "drift" in measured.numbers


def test_vidrds_options_reach_it(cell):
    names = ("method=vidrd", "alpha=4.0", "beta=0.4", "overlap=4", "steps=20")
    mirrored, _ = cell(*names, "reverse=True", "join=keep", suite="ablation")
    forwards, _ = cell(*names, "reverse=False", "join=drop_duplicate", suite="ablation")
    assert mirrored.facts["seams"].startswith("mirror at 8, mirror at 16")
    assert forwards.facts["seams"].startswith("soft at 8, soft at 12")
    assert forwards.numbers["steps"].value < mirrored.numbers["steps"].value == 20


def test_the_vae_joins_frames_where_the_record_says(cell):
    names = ("method=vidrd", "alpha=4.0", "beta=0.4", "overlap=4", "steps=8", "reverse=True", "join=drop_duplicate")
    paper, _ = cell(*names, "compat=paper", suite="ablation")
    assert paper.facts["decoded"] == "clips of 8 from frame 0"
    assert paper.facts["seams"].startswith("mirror at 8, mirror at 15")
    released, _ = cell(*names, "compat=released", suite="ablation")
    assert released.facts["decoded"] == "clips of 1 from frame 0"


@pytest.mark.precision
def test_bf16_goes_all_the_way(cell):
    full, _ = cell("method=vidrd")
    half, _ = cell("method=vidrd", "precision=bf16")
    assert half.facts["output_sha256"] != full.facts["output_sha256"]
    assert abs(half.numbers["flicker"].value - full.numbers["flicker"].value) < 0.01


def test_latents_that_are_not_finite_are_invalid(cell, monkeypatch):
    monkeypatch.setattr(ToyDenoiser, "__call__", lambda self, latents, timesteps: latents * float("nan"))
    with pytest.raises(InvalidError, match=r"\d+ latents are NaN or infinite"):
        cell("method=independent")


def test_calls_that_are_not_those_of_the_plan_are_invalid(cell, monkeypatch):
    honest = METHODS["independent"]

    def cheat(denoise, schedule, request, options, **more):
        result = honest.sample(denoise, schedule, request, options, **more)
        denoise(result.latents[:, :, :8], torch.tensor(1))
        return result

    monkeypatch.setitem(METHODS, "independent", honest._replace(sample=cheat))
    with pytest.raises(InvalidError, match="5 calls over 40 frames were made where the plan says 4 over 32"):
        cell("method=independent")


def test_a_real_cell_shows_real_video_of_the_same_captions(cell, real_cells):
    cell("method=vidrd")
    shown = [np.load(path) for path in real_cells.glob("*/real.npz")]
    real, *_ = (each for each in shown if len(each["embedding"]) == 8)  # of 8 videos with a window each
    assert real["embedding"].shape == (8, 64)
    assert real["source"].tolist() == list(range(8))


def test_a_still_video_shows_what_its_caption_says_and_moves_nowhere(cell):
    measured, folder = cell("method=still", suite="clips")
    videos = np.load(folder / "videos.npz")["videos"]
    assert (videos == videos[:, :1]).all()
    assert measured.numbers["flicker"].value == measured.numbers["motion"].value == 0
    assert measured.absent["seam_d"] == "still video is one clip"
    assert measured.numbers["fvd"].value > 0
    generated, _ = cell("method=independent", suite="clips")
    assert generated.absent["seam_d"] == "independent has no seams, it makes the whole video in one window"
