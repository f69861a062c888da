"""`python -m metrics vbench` end to end, on full-size recipe weights where that takes minutes."""

import json

import numpy as np
import pytest
import torch

from metrics.__main__ import main
from tests.metrics import recipes2026 as recipe


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path_factory):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.delenv("VIDRD_METRICS_WEIGHTS", raising=False)


def run(monkeypatch, capsys, *words, code=0) -> str:
    monkeypatch.setattr("sys.argv", ["metrics", "vbench", *map(str, words)])
    status = 0
    try:
        main()
    except SystemExit as stop:
        status = stop.code
    out, err = capsys.readouterr()
    assert status == code, err
    return err if code else out


@pytest.fixture
def videos(tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    for name, video in recipe.videos().items():
        np.save(folder / f"{name}.npy", video)
    return folder


def test_without_weights_it_measures_flickering_and_says_what_it_leaves_out(videos, tmp_path, monkeypatch, capsys):
    out = run(monkeypatch, capsys, videos, "--json", tmp_path / "o.json")
    record = json.loads((tmp_path / "o.json").read_text())
    assert record["scores"]["temporal_flickering:vbench"]["n"] == 4
    assert record["manifest"]["protocol"] == "vbench"
    assert "temporal_flickering_scaled:vbench" in out
    assert "not measured: subject_consistency" in out
    assert "temporal_flickering is blind to" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "give one set of videos"),
        (("{v}", "--import", "{v}"), "--import reads a result and measures nothing"),
        (("{v}", "--batch", "0"), "--batch is a count from 1; got 0"),
        (("{v}", "--full-info", "{v}/noise8.npy"), "--full-info numbers the prompts of --export"),
        (("{v}", "--export", "{v}/out"), "VBench finds the prompt of a video in its name: give --prompts"),
        (("{v}", "--dimensions", "dynamic_degree"), "dynamic_degree cannot be measured"),
        (("{v}", "--compat", "vbench"), "holds no videos for VBench"),
        (("{v}", "--prompts", "{v}/none.json"), "--prompts {v}/none.json: there is no such file"),
    ],
)
def test_a_fault_of_a_user_is_one_line(videos, monkeypatch, capsys, words, message):
    err = run(monkeypatch, capsys, *(word.replace("{v}", str(videos)) for word in words), code=3)
    assert message.replace("{v}", str(videos)) in err
    assert err.count("\n") == 1


def test_export_and_import_write_and_read_records(tmp_path, monkeypatch, capsys):
    path = tmp_path / "mine_eval_results.json"
    path.write_text(json.dumps({"dynamic_degree": [0.5, [{"video_results": True}, {"video_results": False}]]}))
    out = run(monkeypatch, capsys, "--import", path, "--json", tmp_path / "o.json")
    assert "dynamic_degree:vbench-import" in out
    record = json.loads((tmp_path / "o.json").read_text())
    assert record["values"]["dynamic_degree:vbench-import"] == [1.0, 0.0]


@pytest.mark.slow
def test_the_golden_scores_from_published_files(videos, tmp_path, monkeypatch, capsys):
    weights = tmp_path / "weights"
    (weights / "dino_model").mkdir(parents=True)
    torch.save(
        recipe.weights(recipe.golden("dino_vitb16")["state_dict"]),
        weights / "dino_model" / "dino_vitbase16_pretrain.pth",
    )
    clip = recipe.weights(recipe.golden("clip_vitb32")["state_dict"], half=True)
    torch.save({name: tensor.half() for name, tensor in clip.items()}, weights / "ViT-B-32.pt")
    run(monkeypatch, capsys, videos, "--weights", weights, "--json", tmp_path / "o.json")
    record = json.loads((tmp_path / "o.json").read_text())
    for dimension, golden in (("subject_consistency", "dino_vitb16"), ("background_consistency", "clip_vitb32")):
        known = recipe.golden(golden)["results"]["float64"]
        names = ("cut16", "gradient12", "noise8", "still8")
        expected = [known[name]["video_results"] for name in names]
        np.testing.assert_allclose(record["values"][f"{dimension}:vbench"], expected, atol=1e-6)
        pooled = record["scores"][f"{dimension}_pooled:vbench"]["value"]
        assert pooled == pytest.approx(known["SET all_results (frames pooled)"], abs=1e-6)
