"""CLIP scores under their definitions, against cosines of the golden run; prompts, tokens and what is cut."""

import gzip
import json
import os

import numpy as np
import pytest
import torch

from metrics.intervals import mean_score
from metrics.networks.clip import TextTower
from metrics.score import Score
from metrics.text import clip_score
from metrics.text.prompts import (
    BEGIN,
    END,
    MERGES,
    count_cut,
    embed_prompts,
    find_tokenizer,
    hash_prompts,
    prompt_of_name,
    read_prompts,
    token_rows,
)
from tests.metrics import recipes2026 as recipe

COSINES = {
    name: np.array(rows) for name, rows in recipe.golden("clip_vitb32")["results"]["float64"]["clip_similarity"].items()
}


def test_definitions_differ_on_negative_cosines():
    first = [rows[:, 0] for rows in COSINES.values()]
    assert any((rows < 0).any() for rows in first)
    for rows in first:
        assert clip_score.clipsim(rows) == pytest.approx(rows.mean())
        assert clip_score.clipscore(rows) == pytest.approx(2.5 * np.clip(rows, 0, None).mean())
    pooled = np.concatenate(first).mean()
    assert clip_score.torchmetrics_clipscore(first).value == max(100 * pooled, 0)
    high = [rows + 0.5 for rows in first]
    assert clip_score.torchmetrics_clipscore(high).value == pytest.approx(100 * (pooled + 0.5))
    ratio = clip_score.clip_ratio(Score(0.29, 4), Score(0.31, 4))
    assert ratio == Score(0.29 / 0.31, 4)
    with pytest.raises(ValueError, match=r"CLIP-RM divides by real video's CLIPSIM: got -0\.1"):
        clip_score.clip_ratio(Score(0.29, 4), Score(-0.1, 4))


def test_cosines_and_frame_consistency_do_not_see_lengths():
    angles = np.radians([0, 30, 90])
    frames = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    scaled = frames * np.float32([[1], [7], [0.1]])
    np.testing.assert_allclose(clip_score.cosines(scaled, np.float32([2, 0])), np.cos(angles), atol=1e-6)
    expected = 100 * (np.cos(np.radians(30)) + np.cos(np.radians(60))) / 2
    assert clip_score.frame_consistency(scaled) == pytest.approx(expected, abs=1e-4)
    with pytest.raises(ValueError, match="got a video of one frame"):
        clip_score.frame_consistency(frames[:1])


@pytest.fixture
def table(tmp_path):
    """A table of merges that knows the word `cat`."""
    merges = ["#version: 0.2", "c a", "ca t</w>", "d o"]
    (tmp_path / MERGES).write_bytes(gzip.compress("\n".join(merges).encode()))
    return find_tokenizer(tmp_path)


def test_merges_make_words_and_marks(table):
    letters = table.core.get_vocab()
    assert table.ids("Cat") == [BEGIN, letters["cat</w>"], END]
    assert table.ids("  cat \n dog&amp;") == [
        BEGIN,
        letters["cat</w>"],
        letters["do"],
        letters["g</w>"],
        letters["&</w>"],
        END,
    ]
    assert table.ids("") == [BEGIN, END]


def test_openais_table_gives_the_ids_of_the_golden_run():
    folder = os.environ.get("VIDRD_METRICS_WEIGHTS")
    tokenizer = find_tokenizer(folder)
    if tokenizer is None:
        pytest.skip(f"VIDRD_METRICS_WEIGHTS names no folder with {MERGES}")
    known = recipe.golden("clip_vitb32")
    assert [tokenizer.ids(prompt) for prompt in known["prompts"]] == known["token_ids"]


def test_long_prompts_keep_the_mark_of_the_end_and_are_counted(table):
    prompts = ["cat " * 100, "cat", (BEGIN, 320, END)]
    rows = token_rows(prompts, table, 77)
    assert rows[0, 0] == BEGIN
    assert rows[0, 76] == END
    assert rows[1, 3:].eq(0).all()
    assert rows[2, :3].tolist() == [BEGIN, 320, END]
    assert count_cut(prompts, table, 77) == 1
    with pytest.raises(ValueError, match=r"put bpe_simple_vocab_16e6\.txt\.gz into the folder of weights, or give ids"):
        token_rows(["cat"], None, 77)


def test_equal_prompts_are_embedded_once(table):
    torch.manual_seed(0)
    tower = TextTower(width=64, layers=1, features=8)
    for parameter in tower.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    calls = []
    tower.register_forward_hook(lambda *args: calls.append(1))
    features = embed_prompts({"a": "cat", "b": "cat", "c": (BEGIN, 320, END)}, tower, table)
    assert len(calls) == 2
    np.testing.assert_array_equal(features["a"], features["b"])
    assert not np.allclose(features["a"], features["c"])


def test_prompts_are_read_from_json_lines_or_names(tmp_path):
    for encoding in ("utf-8", "utf-8-sig"):  # the second begins with a mark, as Windows writes it
        (tmp_path / "p.json").write_text(json.dumps({"a.mp4": "a cat", "b.mp4": [49406, 320, 49407]}), encoding)
        assert read_prompts(tmp_path / "p.json") == {"a.mp4": "a cat", "b.mp4": (49406, 320, 49407)}
        (tmp_path / "p.tsv").write_text("a.mp4\ta cat\n\nb.mp4\ta dog\tand a cat\n", encoding)
        assert read_prompts(tmp_path / "p.tsv") == {"a.mp4": "a cat", "b.mp4": "a dog\tand a cat"}
    assert prompt_of_name("a cat on a mat-12.mp4") == "a cat on a mat"
    assert hash_prompts({"a": "x", "b": "y"}) == hash_prompts({"b": "y", "a": "x"}) != hash_prompts({"a": "x"})
    for content, message in (
        ('{"a": 3}', "the prompt of a is a text or a list of token ids"),
        ('{"a": [99999]}', "a list of token ids below 49408"),
        ("[]", "it holds a list"),
        ('{"a": "x", "b": "y", "a": "z"}', "a video has one prompt: got 2 of a, choose one"),
    ):
        (tmp_path / "bad.json").write_text(content)
        with pytest.raises(ValueError, match=message):
            read_prompts(tmp_path / "bad.json")
    (tmp_path / "bad.tsv").write_text("no tab here\n")
    with pytest.raises(ValueError, match="a line is a name, a tab and a prompt: got 'no tab here'"):
        read_prompts(tmp_path / "bad.tsv")
    (tmp_path / "twice.tsv").write_text("a\tx\nb\tx\na\ty\na\tz\n")
    with pytest.raises(ValueError, match="a video has one prompt: got 3 of a, choose one"):
        read_prompts(tmp_path / "twice.tsv")


def test_the_interval_is_over_videos():
    values = [clip_score.clipsim(rows[:, 0]) for rows in COSINES.values()]
    score = mean_score(values)
    assert score.n == 4
    assert score.low < score.value < score.high
