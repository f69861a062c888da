"""Protocols on the features of 2026: their rows, JEDi against its own code, and each through the command line."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from metrics.__main__ import main
from metrics.distribution.kvd import jedi_floor, jedi_score
from metrics.evaluation.dataset import ResolvedProtocol
from metrics.networks import vision
from metrics.networks.vision import VisionFeatures
from metrics.protocols import FEATURES, FVD
from tests.metrics import recipes2026 as recipe
from tests.metrics.recipes import rng

KNOWN = recipe.golden("formulas")["jedi_mmd"]
PAIRS = {"P1": (64, 64, 32, 1.2, 0.1), "P2_unequal": (40, 90, 48, 0.8, -0.2), "P3_d1280": (128, 100, 1280, 1.05, 0.02)}


def pair(tag: str, n: int, m: int, d: int, scale: float, shift: float) -> tuple[np.ndarray, np.ndarray]:
    short = tag.partition("_")[0]
    w = rng(f"m26/jedi/{short}/w").standard_normal((d, d)) / np.sqrt(d)
    x = rng(f"m26/jedi/{short}/x").standard_normal((n, d)) @ w
    y = rng(f"m26/jedi/{short}/y").standard_normal((m, d)) @ w * scale + shift
    return x.astype(np.float32), y.astype(np.float32)


@pytest.mark.parametrize("tag", PAIRS)
def test_jedi_is_that_of_its_own_code(tag):
    x, y = pair(tag, *PAIRS[tag])
    known = KNOWN[tag]["float64"]
    assert jedi_score(x, y).value == pytest.approx(known["jedi(x,y)"], rel=1e-6)
    assert jedi_score(y, x).value == pytest.approx(jedi_score(x, y).value, rel=1e-12)  # symmetric
    assert jedi_score(x, -x).value == pytest.approx(0, abs=1e-9)  # and blind to the sign of features
    half = len(x) // 2
    expected = known["jedi(x first half, x second half)"]
    assert jedi_score(x[:half], x[half:]).value == pytest.approx(expected, rel=1e-6)


def test_the_floor_falls_with_the_number_of_videos():
    x, y = pair("P1", *PAIRS["P1"])
    both = np.concatenate([x, x[::-1] + 0.01])
    few, many = jedi_floor(both, 8), jedi_floor(both, 32)
    assert few.value > many.value > 0
    assert few.low < few.value < few.high
    score = jedi_score(x, y)
    assert score.low < score.value < score.high
    with pytest.raises(ValueError, match="a floor at n=70 needs n >= 2 and 140 real videos: got 128"):
        jedi_floor(both, 70)


def test_rows_say_what_is_unstated_and_clash_with_no_other():
    assert not FEATURES.keys() & FVD.keys()
    for name, row in FEATURES.items():
        assert row.unstated, name
        resolved = ResolvedProtocol.of("fvd", name)
        assert (resolved.frames, resolved.ddof) == (row.frames, row.ddof)
        assert resolved.at_least == 2 * row.features
        assert ResolvedProtocol.of("kvd", name).at_least == 0
    assert FEATURES["jedi-facebook"] == replace(
        FEATURES["jedi"],
        network="vjepa-h-facebook",
        source=FEATURES["jedi-facebook"].source,
        unstated=FEATURES["jedi-facebook"].unstated,
    )


def small(network: str, path: object, **options: object) -> VisionFeatures:
    """Mean colors of quarters of the picture, in place of any network."""

    def to_input(video: np.ndarray) -> torch.Tensor:
        clip = torch.from_numpy(np.ascontiguousarray(video)).permute(0, 3, 1, 2).float()
        return clip if network in ("dino-b16", "clip-b32") else clip.transpose(0, 1)[None]

    def colors(batch: torch.Tensor) -> torch.Tensor:
        frames = batch if batch.ndim == 4 else batch.mean(dim=2)
        return torch.nn.functional.adaptive_avg_pool2d(frames, 2).flatten(1)

    frames = 1 if network in ("dino-b16", "clip-b32") else None
    return VisionFeatures(f"{network}:small", colors, to_input, "0" * 64, "unrecognised", frames=frames)


@pytest.mark.parametrize("protocol", FEATURES)
@pytest.mark.parametrize("verb", ["fvd", "kvd"])
def test_each_row_runs_and_is_named(tmp_path, monkeypatch, capsys, protocol, verb):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(vision, "load_of_protocol", small)
    generator = np.random.default_rng(0)
    for side, n in (("real", 20), ("fake", 8)):
        np.save(tmp_path / f"{side}.npy", generator.integers(0, 256, (n, 17, 16, 16, 3), dtype=np.uint8))
    words = [verb, tmp_path / "real.npy", tmp_path / "fake.npy", "--protocol", protocol, "--weights", tmp_path]
    options = ["--n", 8, "--allow-small", "--json", tmp_path / "o.json"] if "fvd" in protocol else []
    options = options or ["--allow-small", "--json", tmp_path / "o.json"]
    monkeypatch.setattr(sys, "argv", ["metrics", *map(str, [*words, *options])])
    main()
    record = json.loads((tmp_path / "o.json").read_text())
    names = {name.partition("(n=")[0] for name in record["scores"]}  # another n than the row's is part of the name
    if verb == "fvd":
        assert {f"fvd:{protocol}", f"fvd_floor:{protocol}"} <= names
    else:
        assert {f"{name}:{protocol}" for name in ("kvd", "precision", "recall", "density", "coverage")} <= names
        assert (f"jedi:{protocol}" in names) is protocol.startswith("jedi")
        assert (f"jedi_floor:{protocol}" in names) is protocol.startswith("jedi")
    assert record["manifest"]["row"]["unstated"] == FEATURES[protocol].unstated
    capsys.readouterr()
