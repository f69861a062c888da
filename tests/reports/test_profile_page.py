import json
import re

import pytest

from reports.profile_page import flame_graph, profile_page

ROW = {"stage": "denoise", "layer": "Block › Linear", "operator": "addmm", "kernel": "gemm<float>", "calls": 2,
       "seconds": 0.2, "share": 0.5, "limit": "arithmetic"}  # fmt: skip


def write(folder, seconds, **values):
    """A profile whose one operator took these seconds."""
    folder.mkdir()
    flame = {"denoise": [seconds, {"Block": [seconds, {"addmm": [seconds, {}]}]}]}
    content = {"values": {"method": "vidrd", **values}, "what": "operators on the CPU", "seconds": seconds,
               "rows": [{**ROW, "seconds": seconds}], "flame": flame}  # fmt: skip
    (folder / "profile.json").write_text(json.dumps(content))
    return folder


def test_one_cell_has_its_operators_and_a_flame_graph(tmp_path):
    assert profile_page(write(tmp_path / "a", 0.2)) == 0
    page = (tmp_path / "a" / "profile.html").read_text()
    assert "gemm&lt;float&gt;" in page
    for text in ("Block › Linear", "50%", "arithmetic", "100.0%", "Flame graph, 200.0 ms", "<svg class="):
        assert text in page
    assert "http" not in re.sub(r'http-equiv="Content-Security-Policy"', "", page)  # nothing is loaded


def test_two_cells_stand_side_by_side_at_one_scale(tmp_path):
    before, after = write(tmp_path / "a", 0.2, setting="plain"), write(tmp_path / "b", 0.05, setting="x")
    assert profile_page(before, after, tmp_path / "page.html") == 0
    page = (tmp_path / "page.html").read_text()
    assert "setting: before plain, after x" in page
    assert "-150.00" in page
    widest = [max(map(float, re.findall(r'width="([0-9.]+)"', part))) for part in page.split("<svg")[1:]]
    assert widest[1] == pytest.approx(widest[0] / 4, abs=0.5)


def test_a_frame_is_as_wide_as_its_share_and_lies_on_what_called_it():
    svg = flame_graph({"denoise": [3.0, {"a<b": [1.0, {}]}], "decode": [1.0, {}]}, 4.0)
    frames = re.findall(r'<title>(.*?):.*?x="([0-9.]+)" y="(\d+)" width="([0-9.]+)"', svg)
    places = {name: (float(x), int(y), float(width)) for name, x, y, width in frames}
    assert places["denoise"] == (0.0, 18, 824.5)
    assert places["decode"] == (825.0, 18, 274.5)
    assert places["a&lt;b"] == (0.0, 0, 274.5)


def test_a_folder_without_a_profile_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"a profile leaves a profile\.json"):
        profile_page(tmp_path)
