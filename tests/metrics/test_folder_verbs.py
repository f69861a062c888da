"""`alignment` and `minutes` from the command line, with small networks in place of the large ones."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from metrics import folder_verbs
from metrics.__main__ import main
from metrics.networks.folder import WeightsFolder
from metrics.networks.vision import VisionFeatures
from metrics.temporal import minutes, score_minutes
from metrics.text import alignment, clip_score
from tests.metrics import recipes2026 as recipe

NAMES = ("cut16", "gradient12", "noise8")


def small(name: str, columns: slice) -> VisionFeatures:
    """Mean colors of the parts of a frame, less gray, in place of any network."""

    def to_input(video: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(video)).permute(0, 3, 1, 2).float() - 100

    def colors(batch: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.adaptive_avg_pool2d(batch, 2).flatten(1)[:, columns]

    return VisionFeatures(name, colors, to_input, "0" * 64, "unrecognised", frames=1)


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("VIDRD_METRICS_WEIGHTS", raising=False)
    folder = tmp_path / "videos"
    folder.mkdir()
    for name in NAMES:
        np.save(folder / f"{name}.npy", recipe.videos()[name])
    for name in ("dino", "clip_b32"):
        monkeypatch.setattr(WeightsFolder, name, small(name, slice(None)))
    first = small("viclip", slice(None))
    clips = replace(first, frames=None, to_input=lambda clip: first.to_input(clip[:1]))
    monkeypatch.setattr(WeightsFolder, "viclip", clips)
    for name in ("aesthetic", "musiq"):
        monkeypatch.setattr(WeightsFolder, name, small(name, slice(0, 1)))

    def run(verb: str, *words: object, code: int = 0) -> dict | str:
        monkeypatch.setattr(sys, "argv", ["metrics", verb, *map(str, words), "--json", str(tmp_path / "o.json")])
        status = 0
        try:
            main()
        except SystemExit as stop:
            status = stop.code
        out, err = capsys.readouterr()
        assert status == code, err
        return err if code else {**json.loads((tmp_path / "o.json").read_text()), "out": out}

    run.folder = folder
    return run


def test_minutes_measures_what_the_videos_are_long_enough_for(run):
    record = run("minutes", run.folder, "--window", 4)
    scores, network = record["scores"], small("dino", slice(None))
    rows = {name: network.rows(recipe.videos()[name]) for name in NAMES}
    expected = np.mean([minutes.similarity_against_gap(rows[name], 5) for name in NAMES])
    assert scores["similarity_gap:5:minutes"]["value"] == pytest.approx(expected, abs=1e-6)
    assert scores["similarity_gap:5:minutes"]["n"] == 3
    assert "similarity_gap:10:minutes" not in scores
    assert any("similarity_gap:10 (noise8.npy has 8 frames, similarity_gap:10 needs 11" in n for n in record["notes"])
    colors = [minutes.frame_colors(recipe.videos()[name]) for name in NAMES]
    assert scores["color_step:minutes"]["value"] == pytest.approx(np.mean([minutes.color_step(c, 4) for c in colors]))
    assert {
        "identity:minutes",
        "identity:end:minutes",
        "start_end_drift:aesthetic:minutes",
        "seam_color_step:minutes",
    } <= set(scores)
    assert record["manifest"]["window"] == 4


def test_minutes_takes_chunks_of_long_videos(run):
    for name in NAMES:
        (run.folder / f"{name}.npy").unlink()
    np.save(run.folder / "long.npy", np.stack([recipe.gradient(t) for t in range(64)]))
    record = run("minutes", run.folder, "--measures", "vde:imaging", "chunk_drift:imaging", "chunk_drift:subject")
    rows = small("musiq", slice(0, 1)).rows(np.stack([recipe.gradient(t) for t in range(64)]))[:, 0] / 100
    chunks = minutes.chunk_means(rows)
    assert record["scores"]["vde:imaging:minutes"]["value"] == pytest.approx(minutes.vde(chunks), rel=1e-5)
    drift = record["scores"]["chunk_drift:imaging:minutes"]["value"]
    assert drift == pytest.approx(minutes.drift_of_chunks(chunks), abs=1e-6)


def test_alignment_gives_each_definition_its_name(run, monkeypatch, tmp_path):
    prompts = {f"{name}.npy": "a cat" for name in NAMES}
    (tmp_path / "prompts.json").write_text(json.dumps(prompts))
    vector = np.linspace(-1, 1, 12).astype(np.float32)
    monkeypatch.setattr(alignment, "embed_prompts", lambda of, tower, tokenizer: dict.fromkeys(of, vector))
    for loader in ("load_clip_text", "load_viclip_text"):
        monkeypatch.setattr(alignment, loader, lambda *words: (None, None))
    monkeypatch.setattr(WeightsFolder, "file", lambda self, checkpoint: None)
    monkeypatch.setattr(folder_verbs, "count_cut", lambda prompts, tokenizer, length: 2)
    record = run("alignment", run.folder, run.folder, "--prompts", tmp_path / "prompts.json")
    network = small("clip_b32", slice(None))
    of_frames = [clip_score.cosines(network.rows(recipe.videos()[name]), vector) for name in NAMES]
    scores = record["scores"]
    assert scores["clipsim:clip-b32"]["value"] == pytest.approx(np.mean([f.mean() for f in of_frames]), abs=1e-6)
    pooled = max(100 * float(np.concatenate(of_frames).mean()), 0)
    assert scores["clipscore_torchmetrics:clip-b32"]["value"] == pytest.approx(pooled, abs=1e-4)
    assert {"clipscore:clip-b32", "frame_consistency:clip-b32", "viclip:clip-b32"} <= set(scores)
    for length in (77, 32):  # CLIP's and ViCLIP's
        assert f"2 of 3 prompts have more than {length} tokens, and were cut there" in record["notes"]
    if scores["clipsim_real:clip-b32"]["value"] > 0:
        assert scores["clip_ratio:clip-b32"]["value"] == pytest.approx(1)


def test_what_reads_no_prompt_needs_no_tokens(run, tmp_path):
    (tmp_path / "prompts.json").write_text(json.dumps({f"{name}.npy": "a cat" for name in NAMES}))
    record = run("alignment", run.folder, "--prompts", tmp_path / "prompts.json")
    assert record["scores"].keys() == {"frame_consistency:clip-b32"}
    assert any(note.startswith("not measured: clipsim") for note in record["notes"])
    assert not any("tokens, and were cut" in note for note in record["notes"])


def test_minutes_sees_what_is_shown_drift_from_the_prompt(run, monkeypatch, tmp_path):
    (tmp_path / "prompts.json").write_text(json.dumps({f"{name}.npy": "a cat" for name in NAMES}))
    vector = np.linspace(-1, 1, 12).astype(np.float32)
    monkeypatch.setattr(score_minutes, "viclip_texts", lambda weights, prompts: dict.fromkeys(prompts, vector))
    words = ("--prompts", tmp_path / "prompts.json", "--measures", "start_end_drift:semantic")
    record = run("minutes", run.folder, *words)
    network = small("viclip", slice(None))
    expected = []
    for name in NAMES:
        video = recipe.videos()[name]
        starts = [clip[0] for clip in minutes.semantic_frames(len(video))]  # the stand-in reads a clip's first frame
        first, last = clip_score.cosines(network.rows(video[starts]), vector)
        expected.append(abs(first - last))
    value = record["scores"]["start_end_drift:semantic:minutes"]["value"]
    assert value == pytest.approx(np.mean(expected), abs=1e-6)
    assert record["manifest"]["prompts_sha256"] is not None


@pytest.mark.parametrize(
    ("verb", "words", "message"),
    [
        ("minutes", ("{v}", "--window", "0"), "--window is a count from 1; got 0"),
        (
            "minutes",
            ("{v}", "--measures", "beauty"),
            "there is no measure 'beauty' here: it is one of",
        ),
        (
            "minutes",
            ("{v}", "--measures", "similarity_gap:50"),
            "cannot be measured: cut16.npy has 16",
        ),
        ("minutes", ("{v}", "--n", "4"), "4 were requested: ask for fewer"),
        ("alignment", ("{v}", "--prompts", "{v}/noise8.npy"), "cannot be read as prompts"),
    ],
)
def test_a_fault_of_a_user_is_one_line(run, verb, words, message):
    err = run(verb, *(word.replace("{v}", str(run.folder)) for word in words), code=3)
    assert message in err
    assert err.count("\n") == 1


def test_a_cache_that_cannot_be_used_is_left_out(run, tmp_path):
    (tmp_path / "file").write_text("")
    record = run("minutes", run.folder, "--cache", tmp_path / "file" / "kept", "--measures", "identity")
    assert record["scores"]["identity:minutes"]["n"] == 3
