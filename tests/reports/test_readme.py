import io

import numpy as np
import pytest
from made_runs import grid, write
from PIL import Image

from reports.readme import BEGIN, END, write_readme
from reports.run_table import load, rows


@pytest.fixture
def readme(tmp_path):
    path = tmp_path / "README.md"
    path.write_text(f"# Title\n\n{BEGIN}\nold\n{END}\n\nrest \\1\n")
    return path


def test_picture_and_table_stand_between_the_marks(tmp_path, readme):
    run = load(write(tmp_path / "run", grid(), videos=1))
    written = write_readme(run, rows(run), readme)
    assert written == [readme, tmp_path / "docs" / "result.png"]
    text = readme.read_text()
    assert text.startswith(f"# Title\n\n{BEGIN}\n![")
    assert text.endswith(f"{END}\n\nrest \\1\n")
    assert "\nold\n" not in text
    assert "frames = 32" in text
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    assert [line.split("|")[1].strip() for line in lines] == [
        "method", "real video", "ours", "theirs", "&lt;i&gt;evil&lt;/i&gt;",
    ]  # fmt: skip
    assert "revision abcdef01+changes on" in text
    picture = np.asarray(Image.open(io.BytesIO(written[1].read_bytes())).convert("RGB"))
    assert picture.shape[0] == 44 + 4 * (68 + 8)
    again = readme.read_text()
    write_readme(run, rows(run), readme)
    assert readme.read_text() == again


def test_columns_can_be_chosen(tmp_path, readme):
    run = load(write(tmp_path / "run", grid(), videos=1))
    table, wanted = rows(run), list(run.measures)[1::-1]
    write_readme(run, table, readme, wanted)
    head = next(line for line in readme.read_text().splitlines() if line.startswith("| method"))
    assert [name.strip() for name in head.split("|")[-3:-1]] == [run.title(name) for name in wanted]
    assert f"--measures {' '.join(wanted)} --readme" in readme.read_text()
    with pytest.raises(ValueError, match=f"--measures fdv: .* has {wanted[1]}"):
        write_readme(run, table, readme, ["fdv"])


def test_rows_can_be_chosen_and_stand_in_the_order_given(tmp_path, readme):
    run = load(write(tmp_path / "run", grid(), videos=1))
    written = write_readme(run, rows(run), readme, methods=["theirs", "ours"])
    lines = [line for line in readme.read_text().splitlines() if line.startswith("| ")]
    assert [line.split("|")[1].strip() for line in lines] == ["method", "real video", "theirs", "ours"]
    assert "--methods theirs ours --readme" in readme.read_text()
    picture = np.asarray(Image.open(io.BytesIO(written[1].read_bytes())).convert("RGB"))
    assert picture.shape[0] == 44 + 2 * (68 + 8)
    swapped = tmp_path / "swapped" / "README.md"
    swapped.parent.mkdir()
    swapped.write_text(f"{BEGIN}\n{END}")
    other = np.asarray(Image.open(write_readme(run, rows(run), swapped, methods=["ours", "theirs"])[1]).convert("RGB"))
    assert not np.array_equal(picture, other)
    with pytest.raises(ValueError, match=r"--methods our: .* has ours, theirs"):
        write_readme(run, rows(run), readme, methods=["our"])


@pytest.mark.parametrize(
    ("content", "videos", "said"),
    [
        (None, 1, "there is no such file"),
        ("no marks", 1, "give it one line <!-- report: begin -->"),
        (f"{END}{BEGIN}", 1, "give it one line"),
        (f"{BEGIN}{END}", 0, "has no videos at frames = 32"),
    ],
)
def test_what_is_missing_is_said(tmp_path, content, videos, said):
    run = load(write(tmp_path / "run", grid(), videos=videos))
    readme = tmp_path / "README.md"
    if content is not None:
        readme.write_text(content)
    with pytest.raises(ValueError, match=said):
        write_readme(run, rows(run), readme)
    assert not readme.exists() or readme.read_text() == content
