import base64
import hashlib
import html.parser
import json
import re
import time

import numpy as np
import pytest
from made_runs import MACHINE, MEASURES, every_status, grid, many_cells, one_cell, write

from reports.charts import charts
from reports.html_page import page
from reports.run_table import load, rows
from reports.saved_videos import scenes
from reports.video_players import PICTURE_BYTES

COMMAND = ["python", "-m", "reports", "runs/a b", "--out", "out"]
FOR_ALL = {"meta", "link", "br", "img", "input", "hr", "polyline", "rect", "path", "line"}


class Reader(html.parser.HTMLParser):
    """Tags, attributes and text of a page, and what is left open."""

    def __init__(self):
        super().__init__()
        self.tags, self.open, self.text = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in {"meta", "link", "br", "img", "input", "hr"}:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def made(folder, most=60, place=None, drawn=charts):
    run = load(folder)
    table = rows(run)
    return page(run, table, drawn(run, table), scenes(run, table, most), COMMAND, place)


def no_charts(run, table):
    return []


def read(text):
    reader = Reader()
    reader.feed(text)
    assert not reader.open
    return reader


@pytest.fixture(scope="module")
def full(made_run):
    return made(made_run)


def test_the_page_is_well_formed_and_loads_nothing(full):
    reader = read(full)
    addresses = [
        value for _, attrs in reader.tags for name, value in attrs.items() if name in {"src", "href", "data-sheet"}
    ]
    assert addresses
    assert all(address.startswith(("data:", "#")) for address in addresses), set(addresses)
    assert "://" not in re.sub(r"http://www\.w3\.org/\S+", "", full)  # names of SVG namespaces
    ids = [attrs["id"] for _, attrs in reader.tags if "id" in attrs]
    assert len(ids) == len(set(ids))


def test_every_picture_has_a_text(full):
    for tag, attrs in read(full).tags:
        if tag == "img":
            assert attrs["alt"]
        if attrs.get("role") == "img":
            assert attrs["aria-label"]


def test_only_our_script_may_run(full):
    scripts = re.findall(r"<script>(.*?)</script>", full, re.DOTALL)
    (allowed,) = re.findall(r"script-src 'sha256-([^']+)'", full)
    (script,) = scripts
    assert base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() == allowed
    assert re.findall(r"<script[^>]*>", full) == ['<script type="application/json" id="records">', "<script>"]


def test_hostile_strings_are_text(full):
    assert "<script>document" not in full
    assert "<b>star</b>" not in full
    assert "<i>evil" not in full
    assert "\x1b" not in full
    text = "".join(read(full).text)
    assert "<script>document.title='owned'</script>" in text
    assert "{{7*7}}" in text
    assert "Which <method> is best & why?" in text


def test_control_characters_of_any_text_reach_neither_page_nor_charts(tmp_path):
    bad = "\x00\x1b[2J\u202e\x9b1m"
    measures = {
        name: {**each, **{key: each[key] + bad for key in ("title", "unit", "definition")}}
        for name, each in MEASURES.items()
    }
    axes = grid(frames=(16,), methods=("ours" + bad, "theirs"), overlaps=(2,), precisions=("fp32", "bf16" + bad))
    texts = {"suite": bad, "question": bad, "revision": bad, "machine": {**MACHINE, "cpu": bad}, "fixed": {bad: bad}}
    text = made(write(tmp_path / "run", axes, measures=measures, **texts), drawn=charts)
    assert "ours" in text
    assert text.count("<figure") > 2
    assert not re.findall("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", text)


def test_every_status_shows_its_reason(full):
    text = re.sub(r"\s+", " ", "".join(read(full).text))
    for status in ("skipped", "oom", "timeout", "failed", "invalid"):
        assert f"why it is {status}" in text
    assert "run the same command again to complete it" in text
    assert "no GPU <here>" in text


def test_the_records_behind_the_page_are_whole(full, made_run):
    (blob,) = re.findall(r'<script type="application/json" id="records">(.*?)</script>', full, re.DOTALL)
    behind = json.loads(blob)["cells"]
    for key, record in load(made_run).records.items():
        assert behind[key]["samples"] == {name: list(values) for name, values in record.samples.items()}
        for name, number in record.numbers.items():
            assert behind[key]["numbers"][name]["value"] == number.value


def test_marks_of_the_table(full):
    marked = [text.strip() for text in re.findall(r'<td class="best"[^>]*>([^<]*)', full)]
    assert "12.0" in marked
    assert "32.0" not in marked
    assert "0.500" not in marked  # no interval, no mark


def test_it_says_how_to_make_it_again(full):
    text = "".join(read(full).text)
    assert "python -m reports 'runs/a b' --out out" in text
    assert "python -m bench run --suite toy --set frames=16,32 --set 'method=ours,theirs,<i>evil</i>'" in text
    assert "w" * 64 in text
    assert not re.findall(r"<h3>(?:apart|headlines|command)</h3>", full)


def test_the_command_that_was_given_is_the_one_to_give_again(tmp_path):
    """With what it left out, which the grid does not know."""
    words = ["python", "-m", "bench", "run", "--suite", "toy", "--only", "method=<i>evil</i>", "--threads", "1"]
    folder = write(tmp_path / "run", grid(), command=words, apart=["precision"], headlines=["fvd"])
    text = "".join(read(made(folder, drawn=no_charts)).text)
    assert "python -m bench run --suite toy --only 'method=<i>evil</i>' --threads 1" in text
    assert "apart: precision" in text
    assert not re.findall(r"\n(?:apart|headlines|command)copy", text)


@pytest.mark.parametrize("kind", ["one", "no records", "no measures", "one axis", "unknown kinds"])
def test_runs_of_every_shape_render(tmp_path, kind):
    if kind == "one":
        text = made(one_cell(tmp_path / "run"))
        assert "No two cells have numbers" in text
    elif kind == "no records":
        text = made(write(tmp_path / "run", grid(), records=False))
        assert "26 not run yet" in text
        assert "<svg" not in text
    elif kind == "no measures":
        text = made(write(tmp_path / "run", grid(), measures={}))
        assert "No two cells have numbers" in text
    elif kind == "one axis":
        text = made(write(tmp_path / "run", grid(frames=(16,), overlaps=(4,), precisions=("fp32",)), videos=1))
        assert "Charts" in text
    else:
        odd = {
            name: {**said, "table": "speed" if name == "rss" else "other", "better": "lower" if name == "fvd" else None}
            for name, said in MEASURES.items()
        }
        text = made(write(tmp_path / "run", grid(), measures=odd, recipe={"a": ["<b>", 1]}))
        assert "speed" in text
        assert "<h3>recipe</h3>" in text
    read(text)


def noisy(folder, frames, height, width):
    """A run of sixty cells, each with one video that no codec likes."""
    axes = grid(frames=(frames,), methods=("a", "b", "c"), overlaps=range(1, 21), precisions=("x",))
    run = load(write(folder, axes))
    video = np.random.default_rng(0).integers(0, 256, (1, frames, height, width, 3), dtype=np.uint8)
    np.savez(folder / "videos.npz", videos=video, seams=np.array([4]))
    for record in run.records.values():
        place = folder / "cells" / record.cell.id
        place.mkdir(parents=True)
        (place / "videos.npz").hardlink_to(folder / "videos.npz")
    return folder


def pictures(text):
    return [base64.b64decode(picture) for picture in re.findall(r"data:image/webp;base64,([^\"]+)", text)]


@pytest.mark.parametrize("shape", [(6, 128, 256), pytest.param((224, 2, 1024), marks=pytest.mark.slow)])
def test_a_page_of_sixty_videos_stays_small(tmp_path, shape):
    """Large frames fill the page with players, wide and long ones with slices; the page says what does not fit."""
    charted = shape[2] > 256  # once is enough
    text = made(noisy(tmp_path / "run", *shape), drawn=charts if charted else no_charts)
    assert text.count("<article") == 60
    assert text.count("<figure") >= 4 * charted
    assert len(text.encode()) < 15e6
    what = "players" if shape[2] == 256 else "slices of \\d+ videos and the players"
    assert re.search(rf"A page holds at most 9 MB of pictures and players: the {what} of \d+ videos did not fit", text)
    assert 0.85 * PICTURE_BYTES < sum(map(len, pictures(text))) <= PICTURE_BYTES


@pytest.mark.parametrize("limit", [0, 3000, 20_000])
def test_no_picture_goes_beyond_the_limit(made_run, monkeypatch, limit):
    monkeypatch.setattr("reports.video_players.PICTURE_BYTES", limit)
    text = made(made_run, drawn=no_charts)
    kept = pictures(text)
    assert sum(map(len, kept)) <= limit
    assert text.count("<article") == 40
    matches = [int(count) for count in re.findall(r"the (?:posters|strips|slices|players) of (\d+) videos", text)]
    shown = len(re.findall(r"data-sheet=", text)) + len(re.findall(r"<img ", text))
    assert sum(matches) + shown == 4 * 40
    read(text)


def test_what_does_not_fit_lies_beside_the_page_where_it_may(made_run, monkeypatch):
    monkeypatch.setattr("reports.video_players.PICTURE_BYTES", 3000)
    placed = {}
    text = made(
        made_run, place=lambda name, video: placed.setdefault(name, video) and f"videos/{name}", drawn=no_charts
    )
    assert "did not fit" not in text
    assert len(placed) + len(pictures(text)) == 4 * 40
    assert set(re.findall(r"\"videos/([^\"]+)\"", text)) == set(placed)


def test_videos_may_lie_beside_the_page(made_run):
    placed = {}

    def place(name, video):
        placed[name] = video
        return f"videos/{name}"

    text = made(made_run, place=place, drawn=no_charts)
    assert len(placed) == 40
    assert set(re.findall(r'data-sheet="videos/([^"]+)"', text)) == set(placed)
    assert 'data-sheet="data:' not in text
    assert "Which" in text


def test_videos_left_out_are_counted(made_run):
    text = made(made_run, most=13, drawn=no_charts)
    assert text.count("<article") == 13
    assert "27 more videos of the run are not shown" in text


@pytest.mark.slow
def test_two_thousand_cells_take_seconds(tmp_path):
    folder = many_cells(tmp_path / "run")
    charts(load(every_status(tmp_path / "warm")), rows(load(tmp_path / "warm")))  # the first drawing starts an engine
    began = time.process_time()
    text = made(folder)
    seconds = time.process_time() - began
    assert text.count("<tr id=") == 2042
    assert len(text.encode()) < 15e6
    assert seconds < 10, seconds  # of CPU time, on cores that do other work as well
