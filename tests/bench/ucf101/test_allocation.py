"""How many videos of which prompt: exact shares, the published rules, and lists of one's own."""

import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.ucf101.allocation import RULES, AllocatedVideo, Rule, allocate, largest_remainder, manifest, rule
from bench.ucf101.classes import class_counts
from bench.ucf101.prompts import Prompt, PromptSet, prompt_set

OURS = prompt_set("descriptive")


def per_prompt(items):
    return Counter(item.prompt for item in items)


@given(st.integers(0, 20_000), st.lists(st.integers(0, 500), min_size=1, max_size=101).filter(any))
def test_shares_are_whole_add_up_and_stay_within_one_of_the_exact_share(total, weights):
    shares = largest_remainder(total, weights)
    assert sum(shares) == total
    for share, weight in zip(shares, weights, strict=True):
        assert abs(share * sum(weights) - total * weight) < sum(weights)
        assert share >= 0
    for a, (share, weight) in enumerate(zip(shares, weights, strict=True)):  # more weight, never fewer
        assert all(share <= other for other, heavier in zip(shares, weights, strict=True) if heavier > weight), a


def test_largest_remainder_by_hand():
    assert largest_remainder(10, [47, 16, 158, 12, 61, 6]) == [2, 1, 5, 0, 2, 0]
    assert largest_remainder(100, [47, 16, 158, 12, 61, 6]) == [16, 5, 53, 4, 20, 2]
    assert largest_remainder(5, [1, 1, 1]) == [2, 2, 1]  # equal remainders go to the first
    assert largest_remainder(3, [0, 1]) == [0, 3]
    for total, weights in ((1, [0, 0]), (-1, [1]), (1, [-1, 2])):
        with pytest.raises(ValueError, match="need weights"):
            largest_remainder(total, weights)


def test_vidrd_10k_follows_the_training_videos():
    items = allocate("vidrd-10k", OURS)
    counts = per_prompt(items)
    assert sum(counts.values()) == len(items) == 10_000
    assert (min(counts.values()), max(counts.values())) == (75, 127)
    official = class_counts(1, "train")
    assert all(abs(counts[name] - 10_000 * videos / 9537) < 1 for name, videos in official.items())
    assert [sample for prompt, sample in items if prompt == "YoYo"] == list(range(counts["YoYo"]))
    assert len(set(items)) == 10_000


@pytest.mark.parametrize(
    ("name", "total", "least", "most"),
    [("100-a-class", 10_100, 100, 100), ("stylegan-v-2048", 2048, 15, 26), ("videopoet-10k", 10_000, 75, 127),
     ("2-a-class", 202, 2, 2), ("150-equally", 150, 1, 2), ("9537-by-train", 9537, 72, 121),
     ("13320-by-all", 13320, 100, 167)],
)  # fmt: skip
def test_rules_by_name(name, total, least, most):
    counts = per_prompt(allocate(name, OURS))
    assert (sum(counts.values()), min(counts.values()), max(counts.values())) == (total, least, most)


def test_every_class_of_the_full_archive_gets_its_own_count_at_its_own_size():
    assert per_prompt(allocate("9537-by-train", OURS)) == class_counts(1, "train")


def test_prompts_of_one_class_share_its_videos():
    several = PromptSet("s", tuple(Prompt(f"A-{i}", "Archery", str(i)) for i in (1, 2, 3)), "test")
    assert per_prompt(allocate("8-a-class", several, {"Archery": 5})) == {"A-1": 3, "A-2": 3, "A-3": 2}
    with pytest.raises(ValueError, match=r"no prompt for 1 classes \(YoYo\)"):
        allocate("8-a-class", several, {"Archery": 5, "YoYo": 1})


def test_a_part_of_the_classes_takes_only_their_prompts():
    assert per_prompt(allocate("10-by-train", OURS, {"Archery": 3, "YoYo": 1})) == {"Archery": 8, "YoYo": 2}


def test_prompts_without_classes_share_evenly_or_not_at_all():
    loose = PromptSet("loose", (Prompt("p00000", None, "a"), Prompt("p00001", None, "b")), "test")
    assert allocate("3-equally", loose) == (
        AllocatedVideo("p00000", 0),
        AllocatedVideo("p00000", 1),
        AllocatedVideo("p00001", 0),
    )
    assert len(allocate("4-a-class", loose)) == 8
    with pytest.raises(ValueError, match="goes by class, and loose has prompts without one"):
        allocate("vidrd-10k", loose)


def test_counts_of_ones_own(tmp_path):
    assert allocate({"Archery": 2, "YoYo": 1}, OURS) == (
        AllocatedVideo("Archery", 0),
        AllocatedVideo("Archery", 1),
        AllocatedVideo("YoYo", 0),
    )
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"YoYo": 3}))
    assert per_prompt(allocate(path, OURS)) == {"YoYo": 3}
    assert rule(str(path)).name == "custom:mine.json"
    with pytest.raises(ValueError, match="'Yoyo' is neither a class nor a prompt"):
        allocate({"Yoyo": 1}, OURS)
    for content in ("[1]", "{}", '{"YoYo": -1}', '{"YoYo": true}', "{"):
        path.write_text(content)
        with pytest.raises(ValueError, match=r"mine\.json"):
            rule(path)
    for name in ("vidrd", "0-a-class", "some.json"):
        with pytest.raises(ValueError, match="there is no allocation"):
            rule(name)


def test_the_manifest_hashes_every_item():
    items = allocate("2-a-class", OURS)
    content = manifest(rule("2-a-class"), items)
    assert content["items"] == 202
    assert content["each"] == 2
    assert content["items_sha256"] != manifest(rule("2-a-class"), items[1:])["items_sha256"]
    assert content == manifest(rule("2-a-class"), allocate(Rule("x", each=2), OURS)) | {"source": content["source"]}
    assert all(row.source for row in RULES.values())
