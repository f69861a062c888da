"""The page in a real browser: headless Chromium, driven by Playwright. Skipped where either is not installed."""

import json
import shutil

import pytest
from made_runs import every_status, moving_square

from reports.saved_videos import SavedVideo, change

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright's Python package is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
LOCAL = ("file:", "data:")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: apt-get install chromium")


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """A run's report folder, videos beside the page."""
    from reports.__main__ import write_report
    from reports.run_table import load

    folder = every_status(tmp_path_factory.mktemp("browser") / "run")
    for name, beside in (("inline", False), ("beside", True)):
        (folder / name).mkdir()
        write_report(load(folder), folder / name, ["python", "-m", "reports", str(folder)], folder=beside)
    return folder


@pytest.fixture(scope="module")
def ucf101(out):
    """The page of a UCF-101 run, in the folder `ucf101` beside the others."""
    from tests.reports.ucf101.test_report import made, write_run

    folder = write_run(out / "ucf101")
    (folder / "report.html").write_text(made(folder))
    return folder


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def visit(browser, out):
    """Opens the page and checks at the end that it complained about nothing and asked the network for nothing."""
    contexts, troubles = [], []

    def open_page(name="inline", **options):
        context = browser.new_context(viewport={"width": 1280, "height": 900}, **options)
        contexts.append(context)
        tab = context.new_page()
        tab.set_default_timeout(20_000)
        tab.on("console", lambda said: troubles.append(said.text) if said.type in {"error", "warning"} else None)
        tab.on("pageerror", lambda error: troubles.append(str(error)))
        tab.on("request", lambda asked: None if asked.url.startswith(LOCAL) else troubles.append(asked.url))
        tab.goto((out / name / "report.html").as_uri())
        return tab

    yield open_page
    for context in contexts:
        context.close()
    assert troubles == []


def column(tab, position):
    return tab.eval_on_selector_all(
        "#cells tbody tr", f"rows => rows.filter(r => !r.hidden).map(r => r.children[{position}].textContent.trim())"
    )


def place_of(tab, measure):
    """The position of a measure's column."""
    measures = tab.eval_on_selector_all("#cells thead tr:last-child th", "heads => heads.map(h => h.dataset.measure)")
    return measures.index(measure)


def test_it_loads_and_is_not_owned(visit):
    tab = visit()
    assert tab.title() == "toy: Which <method> is best & why?"
    assert tab.locator("#cells tbody tr").count() == 26
    assert tab.locator("#count").inner_text() == "26 rows"
    assert tab.locator("figure.chart svg").count() >= 5


def test_sorting_goes_up_down_and_back(visit):
    tab = visit()
    place = place_of(tab, "fvd")
    planned = column(tab, place)
    button = tab.locator('#cells th[data-measure="fvd"] button')
    button.click()
    up = [float(text.split(" ")[0]) for text in column(tab, place) if text != "–"]
    assert up == sorted(up)
    assert column(tab, place)[len(up) :] == ["–"] * (26 - len(up))  # what has no number comes last
    assert tab.locator('#cells th[data-measure="fvd"]').get_attribute("aria-sort") == "ascending"
    button.click()
    down = [float(text.split(" ")[0]) for text in column(tab, place) if text != "–"]
    assert down == sorted(up, reverse=True)
    assert column(tab, place)[len(up) :] == ["–"] * (26 - len(up))
    button.click()
    assert column(tab, place) == planned


def test_filters_work_together(visit):
    tab = visit()
    tab.fill("#filter", "OURS bf16")
    assert set(column(tab, 0)) == {"ours"}
    assert tab.locator("#count").inner_text() == "4 of 26 rows"
    tab.locator("#controls select").nth(1).select_option("4")
    assert tab.locator("#count").inner_text() == "2 of 26 rows"
    tab.fill("#filter", "no such words")
    assert column(tab, 0) == []
    tab.fill("#filter", "")
    tab.locator("#controls select").nth(1).select_option("")
    assert tab.locator("#count").inner_text() == "26 rows"


def test_kinds_of_columns(visit):
    tab = visit()
    tab.locator('.kinds button[data-kind="cost"]').click()
    shown = tab.eval_on_selector_all(
        "#cells thead th[data-measure]", "heads => heads.filter(h => !h.hidden).map(h => h.dataset.measure)"
    )
    assert shown == ["seconds_per_frame", "rss"]
    tab.locator('.kinds button[data-kind=""]').click()
    assert tab.locator("#cells thead th[data-measure]:visible").count() == 6


def test_the_pointer_shows_interval_samples_and_origin(visit):
    tab = visit()
    row = tab.locator("#cells tbody tr").nth(1)
    row.locator("td").nth(place_of(tab, "seconds_per_frame") - 1).hover()
    text = tab.locator("#hover").inner_text()
    assert "n = 6" in text
    assert "95 % interval" in text
    assert "denoise_seconds: 0.3 0.31 0.29" in text
    assert "abcdef0123456789" in text
    assert "steps 20" in text
    assert "weights " + "w" * 12 in text


def test_a_row_opens_all_that_is_known_of_it(visit):
    tab = visit()
    tab.locator("#cells tbody th button").nth(1).focus()
    tab.keyboard.press("Enter")
    text = tab.locator("#detail").inner_text()
    assert "Raw samples" in text
    assert "output_sha256" in text
    assert "no GPU <here>" in text
    assert "load_before" in text
    tab.keyboard.press("Escape")
    assert not tab.locator("#detail").is_visible()


def test_the_table_by_keyboard(visit):
    tab = visit()
    tab.locator("#cells tbody tr").nth(0).locator("td[tabindex='0']").focus()
    for key in ("ArrowDown", "ArrowRight", "ArrowDown"):
        tab.keyboard.press(key)
    position = tab.evaluate("[document.activeElement.parentElement.rowIndex, document.activeElement.cellIndex]")
    assert position == [4, place_of(tab, "is")]
    assert "IS" in tab.locator("#hover").inner_text()


@pytest.mark.parametrize("videos", ["inline", "beside"])
def test_one_scrubber_moves_all_players_to_the_same_frame(visit, videos):
    tab = visit(videos)
    scene = tab.locator("#scene-1")
    scene.locator("canvas").first.wait_for()
    playwright.expect(scene.locator(".video:not([hidden]) canvas")).to_have_count(6)
    slider = scene.locator("input[type=range]")
    slider.focus()
    for _ in range(3):
        tab.keyboard.press("ArrowRight")
    frames = tab.eval_on_selector_all("#scene-1 .video:not([hidden])", "videos => videos.map(f => f.dataset.frame)")
    assert set(frames) == {"3"}
    assert scene.locator(".at").inner_text() == "frame 4 of 16"
    # video 0 is a square that walks a pixel a frame: the canvas shows just that frame
    pictures = tab.eval_on_selector_all(
        "#scene-1 .video:not([hidden]) canvas",
        """all => all.map(canvas => { try { return [...canvas.getContext('2d').getImageData(0, 8, 16, 1).data]; }
           catch { return null; } })""",
    )
    if videos == "inline":  # a page from disk may not read the pixels of a file beside it
        for pixels in pictures:
            bright = [x for x in range(16) if pixels[4 * x] > 200]
            assert bright == [3, 4, 5, 6]
    lines = tab.eval_on_selector_all("#scene-1 .video:not([hidden]) .cursor", "all => all.map(c => c.style.left)")
    assert set(lines) == {"21.875%"}


def test_seams_are_marked_and_can_be_jumped_to(visit):
    tab = visit()
    scene = tab.locator("#scene-1")
    assert scene.locator(".ticks i").count() == 1
    scene.locator("button.seam").click()
    assert scene.locator(".at").inner_text() == "frame 9 of 16 · seam (mirror)"
    line = tab.locator("#scene-1 .seamline").first
    assert line.evaluate("line => getComputedStyle(line).borderLeftStyle") == "dotted"
    assert tab.locator(".seamkey.mirror").inner_text() == "mirror"
    assert tab.eval_on_selector_all("#scene-1 .seamline", "all => [...new Set(all.map(l => l.style.left))]") == ["50%"]


def test_playing_moves_and_stops(visit):
    tab = visit()
    scene = tab.locator("#scene-1")
    scene.locator("select.speed").select_option("2")
    scene.locator("button.play").click()
    video = tab.locator("#scene-1 .video").first
    for _ in range(100):  # the page's security policy forbids Playwright's own way of waiting for an expression
        if int(video.get_attribute("data-frame")) > 2:
            break
        tab.wait_for_timeout(100)
    scene.locator("button.play").click()
    assert scene.locator("button.play").inner_text() == "Play"
    at = video.get_attribute("data-frame")
    assert int(at) > 2
    tab.wait_for_timeout(300)
    assert video.get_attribute("data-frame") == at


def test_a_click_into_the_slice_goes_there(visit):
    tab = visit()
    time = tab.locator("#scene-1 .video .time").first
    time.scroll_into_view_if_needed()
    box = time.bounding_box()
    time.click(position={"x": 0.8 * box["width"], "y": box["height"] / 2})
    assert tab.locator("#scene-1 .at").inner_text() == "frame 13 of 16"


def test_rows_of_a_scene_can_be_hidden(visit):
    tab = visit()
    shown = tab.locator("#scene-1 .video:visible").count()
    tab.locator("#scene-1 .chips button[aria-pressed=true]").first.click()
    assert tab.locator("#scene-1 .video:visible").count() == shown - 1
    tab.locator("#scene-1 .chips button", has_text="all rows").click()
    assert tab.locator("#scene-1 .video:visible").count() == 13


def test_copy_buttons_copy(visit):
    tab = visit(permissions=["clipboard-read", "clipboard-write"])
    button = tab.get_by_role("button", name="Copy: Machine")
    button.click()
    playwright.expect(button).to_have_text("copied")
    assert "cpu: a cpu" in tab.evaluate("navigator.clipboard.readText()")


def test_without_javascript_tables_and_pictures_read(visit):
    tab = visit(java_script_enabled=False)
    assert tab.locator("#cells tbody tr:visible").count() == 26
    assert not tab.locator("#controls").is_visible()
    assert not tab.locator("#theme").is_visible()
    assert tab.locator("figure.chart svg:visible").count() >= 5
    assert tab.locator("#scene-1 .video:visible").count() == 13
    assert tab.locator("#scene-1 img.slice:visible").count() == 13
    tab.locator("#scene-2 summary").click()
    assert tab.locator("#scene-2 .video:visible").count() > 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_light_and_dark(visit, scheme):
    tab = visit(color_scheme=scheme)
    contrast = """selector => {
      const light = text => {
        const [r, g, b] = text.match(/[\\d.]+/g).map(v => v / 255).map(
          v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
      };
      const pair = [document.querySelector(selector), document.body].map(e => getComputedStyle(e));
      const [low, high] = [light(pair[0].color), light(pair[1].backgroundColor)].sort((a, b) => a - b);
      return (high + 0.05) / (low + 0.05);
    }"""
    for selector in (".answer", ".hint", "#cells td", "nav a", ".chip.oom", ".why"):
        assert tab.evaluate(contrast, selector) >= 4.5, selector
    before = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    tab.locator("#theme").click()
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") != before


@pytest.mark.parametrize("name", ["inline", "ucf101"])
def test_nothing_is_wider_than_a_phone(visit, ucf101, name):
    tab = visit(name)
    tab.set_viewport_size({"width": 360, "height": 740})
    assert tab.evaluate("document.documentElement.scrollWidth") <= 360


def test_the_ucf101_page_plays_reads_and_asks_for_nothing(visit, ucf101):
    tab = visit("ucf101")
    scene = tab.locator("#scene-1")
    scene.locator("canvas").first.wait_for()
    scene.locator("input[type=range]").focus()
    tab.keyboard.press("ArrowRight")
    frames = tab.eval_on_selector_all("#scene-1 .video", "videos => videos.map(f => f.dataset.frame)")
    assert frames == ["1", "1"]
    assert tab.locator("tr.measured").count() == 2
    assert tab.locator("#card table").count() > 5
    tab.get_by_role("button", name="Copy: Compute the numbers again").click()
    plain = visit("ucf101", java_script_enabled=False)
    assert plain.locator("#table tbody tr:visible").count() > 20
    assert plain.locator("#scene-1 img.strip:visible").count() == 2


def test_jitter_is_drawn_under_the_player(visit):
    """Each point is the second difference by the sum of both changes, on a scale from 0 to 1."""
    tab = visit()
    svg = tab.locator("#scene-1 .video .jitter").nth(1)
    points = [tuple(map(float, point.split(","))) for point in svg.locator("polyline").get_attribute("points").split()]
    first, second = change(SavedVideo("id", moving_square(), None, 8.0))
    for t, (x, y) in enumerate(points):
        jitter = second[t] / (first[t] + first[t + 1])
        assert (x, y) == (t + 1.5, pytest.approx(0.97 - 0.94 * jitter, abs=1e-3))
    assert len(points) == 14
    assert svg.get_attribute("aria-label").startswith("Jitter, ")


def test_every_control_can_be_named_and_reached(visit):
    tab = visit()
    nameless = tab.eval_on_selector_all(
        "button, select, input",
        """all => all.filter(e => !e.closest('[hidden]') && !e.textContent.trim() && !e.getAttribute('aria-label')
           && !e.closest('label')?.textContent.trim()).map(e => e.outerHTML)""",
    )
    assert nameless == []
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.textContent") == "Skip to the table"


def test_the_numbers_behind_the_page_are_those_of_the_records(visit, out):
    tab = visit()
    lines = [json.loads(line) for line in (out / "records.jsonl").read_text().splitlines()]
    behind = tab.evaluate("records.cells")
    for line in lines:
        for name, number in line["numbers"].items():
            assert behind[line["id"]]["numbers"][name]["value"] == number["value"]
