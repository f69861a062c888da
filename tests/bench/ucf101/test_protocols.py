"""Every protocol is complete, says what it made up, and can be carried out."""

from dataclasses import replace

import pytest

from bench.ucf101 import plan as plans
from bench.ucf101.allocation import allocate
from bench.ucf101.plan import changed, class_videos, keep, make_plan, order, seed_of
from bench.ucf101.prompts import prompt_set
from bench.ucf101.protocols import PROTOCOLS, SETTINGS, protocol
from bench.ucf101.reproduction_card import stated
from bench.ucf101.score import recipe_of
from metrics.protocols import FVD, IS, STYLEGANV

MODEL = {"folder": "model", "sha256": "0" * 64}


def plan(name="vidrd-10k", changes=None, **more):
    settings = {"model": MODEL, "clip": 8, "precision": "fp32", "batch": 4} | more
    return make_plan(name, changes or {}, **settings)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_rows_name_what_exists(name):
    row = PROTOCOLS[name]
    assert set(row.fvd) <= set(FVD)
    assert set(row.inception) <= set(IS)
    assert set(row.unstated) <= set(SETTINGS)
    assert row.frames == 16, "C3D reads nothing else"
    assert allocate(row.allocation, prompt_set(row.prompts))


@pytest.mark.parametrize(
    ("name", "videos"),
    [("vidrd-10k", 10_000), ("videopoet-10k", 10_000), ("100-a-class", 10_100), ("styleganv-2048", 2048)],
)
def test_counts(name, videos):
    planned = plan(name)
    assert len(planned.items) == planned.wanted == videos
    assert sum(class_videos(planned).values()) == videos
    assert len({item.file for item in planned.items}) == len({item.seed for item in planned.items}) == videos


def test_vidrd_follows_the_class_distribution_of_the_training_videos():
    counts = class_videos(plan())
    assert (min(counts.values()), max(counts.values())) == (75, 127)
    assert len(counts) == 101


def test_an_unknown_protocol_is_named():
    with pytest.raises(ValueError, match="there is no UCF-101 protocol 'vidrd': did you mean 'vidrd-10k'"):
        protocol("vidrd")


def test_the_clip_rules_are_the_protocol_s_and_stand_in_the_manifest():
    from bench.ucf101.features import ScoringNetwork

    row = PROTOCOLS["videopoet-10k"]
    resolved = recipe_of(ScoringNetwork("fvd", "styleganv"), row)
    assert resolved.real == replace(row.real, split="given")
    assert resolved.row["real"]["start"] == "centre"
    assert resolved.row["epsilon"] == FVD["styleganv"].epsilon


def test_what_was_changed_is_told():
    row, told = changed("vidrd-10k", {"steps": 20, "guidance": None, "seed": 0})
    assert (row.steps, row.guidance) == (20, 10.0)
    assert told == ("steps: 20, the protocol's is 50",)
    small = changed("styleganv-2048", {"size": 128})[0]
    assert small.real.storage == replace(STYLEGANV, resample=replace(STYLEGANV.resample, size=128))
    planned = plan(changes={"steps": 20}, per_class=1, limit=7)
    assert planned.changes[-1] == "videos: the first 7 of 101"
    by = {row["setting"]: row["by"] for row in stated(planned)}
    assert (by["steps"], by["allocation"], by["seed"], by["half"]) == ("changed", "changed", "unstated", "unstated")
    assert {row["setting"]: row["by"] for row in stated(plan("styleganv-2048"))}["real"] == "source"


def test_seeds_hang_on_run_prompt_and_index_alone():
    assert seed_of(0, "Archery", 3) == seed_of(0, "Archery", 3)
    some = {seed_of(run, prompt, index) for run in (0, 1) for prompt in ("Archery", "Archery1") for index in (3, 13)}
    assert len(some) == 8
    assert all(0 <= seed < 2**63 for seed in some)
    small, large = plan(per_class=1), plan(per_class=3)
    seeds = {item.file: item.seed for item in large.items}
    assert all(seeds[item.file] == item.seed for item in small.items)


def test_any_stretch_of_the_order_is_a_fair_sample():
    prompts = prompt_set("class-name")
    items = order(prompts, allocate("100-a-class", prompts), 0)
    assert len({item.class_name for item in items[:500]}) > 95
    assert [item.file for item in items] != [item.file for item in order(prompts, allocate("100-a-class", prompts), 1)]


def test_blocks_are_cut_from_the_list():
    planned = plan(per_class=1, limit=10)
    assert planned.blocks == 3
    assert [len(planned.block(number)) for number in range(3)] == [4, 4, 2]
    assert planned.block(1) == planned.items[4:8]


def test_identity_is_that_of_the_videos():
    base = plan(per_class=1, limit=4)
    assert base.identity("vidrd") == plan(per_class=1, limit=4).identity("vidrd")
    others = [
        plan(per_class=1, limit=5),
        plan(changes={"steps": 9}, per_class=1, limit=4),
        plan(changes={"seed": 1}, per_class=1, limit=4),
        plan(changes={"prompts": "class-name"}, per_class=1, limit=4),
        plan(per_class=1, limit=4, batch=2),
        plan(per_class=1, limit=4, precision="fp16"),
        plan(per_class=1, limit=4, model={"folder": "model", "sha256": "1" * 64}),
    ]
    identities = {each.identity("vidrd") for each in others} | {base.identity("independent")}
    assert len(identities) == len(others) + 1
    assert base.identity("vidrd") not in identities
    # How videos are scored changes no video.
    assert plan(changes={"fvd": ("clean",)}, per_class=1, limit=4).identity("vidrd") == base.identity("vidrd")


def test_fe_counts_both_branches():
    assert plan().fe("vidrd") == 2 * 8 * 50 * 2
    assert plan(changes={"guidance": 1.0}).fe("vidrd") == 2 * 8 * 50


@pytest.mark.parametrize("what", ["batch", "per_class", "limit"])
def test_counts_of_none_are_refused(what):
    with pytest.raises(ValueError, match="is a count from 1 upwards: got 0"):
        plan(**{what: 0})


def test_a_folder_is_for_one_plan(tmp_path):
    keep(tmp_path / "a" / "plan.json", {"steps": 5, "seed": 1}, "a plan")
    keep(tmp_path / "a" / "plan.json", {"steps": 5, "seed": 1}, "a plan")
    with pytest.raises(ValueError, match="was begun for a plan of other steps: give --out another folder"):
        keep(tmp_path / "a" / "plan.json", {"steps": 6, "seed": 1}, "a plan")
    (tmp_path / "a" / "plan.json").write_text("{")
    with pytest.raises(ValueError, match="cannot be read"):
        keep(tmp_path / "a" / "plan.json", {"steps": 5}, "a plan")


def test_prompts_without_classes_have_a_folder_of_their_own(tmp_path):
    (tmp_path / "list.txt").write_text("a cat\na dog\n")
    planned = plan(changes={"prompts": str(tmp_path / "list.txt"), "allocation": "2-a-class"})
    assert {item.file for item in planned.items} == {
        f"{plans.NO_CLASS}/p{p:05}_{i:04}.mkv" for p in (0, 1) for i in (0, 1)
    }
    assert class_videos(planned) == {}
