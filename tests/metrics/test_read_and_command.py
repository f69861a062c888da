"""Sets of videos from folders, and the command line over them."""

import json
import sys
from fractions import Fraction

import av
import numpy as np
import pytest
from safetensors.torch import save_file

from metrics import METRICS, __main__
from metrics.jitter import flicker
from metrics.pocket import NETWORKS, describe
from metrics.read import read_videos


def some_videos(n: int, frames: int = 9, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, frames, 16, 16, 3), dtype=np.uint8)


def write_film(path, video):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=8)
        stream.height, stream.width, stream.pix_fmt, stream.time_base = *video.shape[1:3], "bgr0", Fraction(1, 8)
        for frame in video:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(format="bgr0")))
        container.mux(stream.encode())


def run(monkeypatch, capsys, *words):
    monkeypatch.setattr(sys, "argv", ["metrics", *map(str, words)])
    try:
        __main__.main()
        code = 0
    except SystemExit as stop:
        code = stop.code
    out, err = capsys.readouterr()
    return code, out, err


def test_arrays_and_films_are_read_in_the_order_of_their_names(tmp_path):
    videos = some_videos(5)
    np.save(tmp_path / "a.npy", videos[:2])
    np.savez(tmp_path / "b.npz", videos[2])
    write_film(tmp_path / "c.mkv", videos[3])
    np.save(tmp_path / "d.npy", videos[4:])
    (tmp_path / "notes.txt").write_text("not a video")
    np.testing.assert_array_equal(read_videos(tmp_path), videos)
    np.testing.assert_array_equal(read_videos(tmp_path, n=4, frames=8), videos[:4, :8])
    np.testing.assert_array_equal(read_videos(tmp_path / "c.mkv"), videos[3:4])


def test_folders_that_hold_no_set_are_refused(tmp_path):
    with pytest.raises(ValueError, match="absent holds no videos"):
        read_videos(tmp_path / "absent")
    with pytest.raises(ValueError, match=r"absent\.npy holds no videos"):
        read_videos(tmp_path / "absent.npy")
    np.save(tmp_path / "a.npy", some_videos(2))
    with pytest.raises(ValueError, match="holds 2 videos, 3 were asked for"):
        read_videos(tmp_path, n=3)
    with pytest.raises(ValueError, match=r"a\.npy must have at least 10 frames, 9 came"):
        read_videos(tmp_path, frames=10)
    np.save(tmp_path / "b.npy", some_videos(1, frames=8))
    with pytest.raises(ValueError, match=r"b\.npy has 8x16x16 \(frames, height, width\), those before 9x16x16"):
        read_videos(tmp_path)
    assert len(read_videos(tmp_path, frames=8)) == 3
    np.save(tmp_path / "a.npy", some_videos(2).astype(float))
    with pytest.raises(ValueError, match="must be uint8"):
        read_videos(tmp_path)
    np.save(tmp_path / "a.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(ValueError, match=r"a\.npy cannot be read as videos"):
        read_videos(tmp_path)
    (tmp_path / "a.npy").unlink()
    (tmp_path / "a.mp4").write_text("no film")
    with pytest.raises(ValueError, match=r"a\.mp4 cannot be decoded"):
        read_videos(tmp_path)


def test_jitter_is_measured_and_written(tmp_path, monkeypatch, capsys):
    videos = some_videos(3, frames=16)
    np.save(tmp_path / "set.npy", videos)
    record = tmp_path / "out.json"
    code, out, _ = run(monkeypatch, capsys, "jitter", tmp_path / "set.npy", "--seams", 4, 8, 12, "--json", record)
    assert code == 0
    scores = json.loads(record.read_text())["scores"]
    assert scores["flicker"]["value"] == flicker(videos).value
    assert scores["flicker"]["n"] == 3
    assert {"seam_ratio:D", "seam_phase:A", "duplicates:seams", "cycling:mirror"} < set(scores)
    assert all(name in out for name in scores)
    code, out, _ = run(monkeypatch, capsys, "jitter", tmp_path / "set.npy")
    assert "seam" not in out


def test_fvd_and_is_are_measured_with_the_weights_given(tmp_path, monkeypatch, capsys):
    weights = tmp_path / "judge.safetensors"
    network = NETWORKS["pocket-c3d"]({"action": 3})
    save_file(network.state_dict(), weights, describe("pocket-c3d", {"action": ("a", "b", "c")}))
    for seed, name in enumerate(("real", "fake")):
        np.save(tmp_path / f"{name}.npy", some_videos(6, frames=16, seed=seed))
    words = (tmp_path / "real.npy", tmp_path / "fake.npy", "--weights", weights, "--window", 8, "--floor")
    code, out, err = run(monkeypatch, capsys, "fvd", *words)
    assert (code, err) == (0, "")
    assert "n = 12" in out
    assert "fvd_floor" in out
    code, out, _ = run(monkeypatch, capsys, "is", tmp_path / "fake.npy", "--weights", weights)
    assert code == 0
    assert "n = 6" in out
    code, _, err = run(monkeypatch, capsys, "is", tmp_path / "fake.npy", "--weights", tmp_path / "none.safetensors")
    assert code == 3
    assert err.count("\n") == 1
    assert "give --weights" in err
    code, _, err = run(monkeypatch, capsys, "fvd", *words[:4], "--json", tmp_path / "absent" / "out.json")
    assert code == 3
    assert err.count("\n") == 1
    assert "is no folder, make it first" in err


def test_the_table_describes_every_metric_in_one_line():
    for name, metric in METRICS.items():
        assert callable(metric.function), name
        assert metric.better in {"lower", "higher", "real"}
        assert metric.meaning
        assert "\n" not in metric.meaning
