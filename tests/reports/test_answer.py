import json
from dataclasses import replace

import pytest
from made_runs import MEASURES, METHODS, cells_of, grid, manifest_of, many_cells, one_cell, record_of, write

from bench.record import Attempt, Number, Record
from reports.answer import answer
from reports.table import load, rows


def said(folder):
    run = load(folder)
    return answer(run, rows(run))


@pytest.fixture
def plain(tmp_path):
    return said(write(tmp_path / "run", grid()))


def test_it_counts_the_cells_by_how_they_ended(made_run, plain):
    assert said(made_run).startswith(
        "20 of 26 cells have their numbers; 1 skipped, 1 ran out of memory, 1 ran out of time, 1 failed, "
        "1 cannot be believed and 1 not run yet."
    )
    assert plain.startswith("All 26 cells have their numbers.")


def test_the_best_row_comes_with_interval_and_real_video(plain):
    assert "FVD is lowest at frames = 16 for ours overlap=2 fp32 (12.0 ±1.2), where real video itself has 2.00" in plain
    assert "it cannot be told apart from 3 others, and 8 are worse beyond noise" in plain


def test_rows_of_equal_numbers_cannot_be_told_apart(tmp_path):
    text = said(write(tmp_path / "run", grid(frames=(16,), methods=METHODS[:1], overlaps=(2,))))
    assert "but it cannot be told apart from the other one" in text
    assert "beyond noise" not in text.split("s/frame")[0]


def test_without_intervals_nothing_is_claimed(plain):
    sentence = next(part for part in plain.split(". ") if part.startswith("action"))
    assert "from too few samples to tell it apart from the other 11" in sentence
    assert "beyond noise" not in sentence


def test_an_axis_is_read_from_pairs_that_differ_in_it_alone(plain):
    assert (
        "precision bf16 against fp32, all else equal: s/frame is better in 12 of 12 pairs (0.60 times, the median); "
        "FVD and action cannot be told apart." in plain
    )
    assert "overlap 4 against 2, all else equal: s/frame is worse in 12 of 12 pairs (1.20 times, the median)" in plain


def real_and_mirror(folder, headlines=("seam_d",), **changes):
    """The run of `grid`, whose seams "ours" makes smoother and the others rougher than real video's 0."""
    return said(write(folder, grid(**changes), headlines=headlines))


def test_headlines_speak_of_nearness_to_real_video(tmp_path):
    text = real_and_mirror(tmp_path / "run", frames=(16,), methods=("theirs", "ours"))
    assert (
        "seam D is nearest to real video's for theirs overlap=2 fp32 (0.5 ±1.7), where real video itself has 0" in text
    )
    assert "FVD is lowest" not in text  # the plan names a measure of this kind
    assert "action is highest" in text  # of another kind it names none


def test_headlines_without_numbers_or_direction_are_not_spoken_of(tmp_path):
    assert said(write(tmp_path / "run", grid(), headlines=["gpu", "no such"])) == said(
        write(tmp_path / "plain", grid())
    )


def toy(folder, axes, value, **changes):
    """A run of one measure that a function of the cell's values gives, with the half of its interval."""
    cells = cells_of({"frames": [16], **axes})
    measures = {"mirror": MEASURES["seam_d"] | {"title": "mirror", "unit": ""}, "fvd": MEASURES["fvd"]}
    manifest = manifest_of({"frames": [16], **axes}, cells, measures=measures, headlines=["mirror"], **changes)
    lines = []
    for cell, reference in cells:
        middle, half = (0.1, 0.02) if reference else value(cell.values)
        number = Number(middle, "", "real", 32, middle - half, middle + half)
        lines.append(Record(cell, Attempt("ok"), {"mirror": number}).to_json() + "\n")
    folder.mkdir()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "records.jsonl").write_text("".join(lines))
    return said(folder)


def test_a_first_axis_of_true_and_false_is_read_too(tmp_path):
    """Content cycles (0.9, real video 0.1) unless the noise goes on forwards (0.2)."""
    axes = {"reverse": [True, False], "overlap": [2, 4]}
    text = toy(tmp_path / "run", axes, lambda v: (0.9 if v["reverse"] else 0.2 + 0.01 * v["overlap"], 0.05))
    assert "mirror is nearest to real video's for reverse=False overlap=2 (0.220 ±0.050), where real video" in text
    assert (
        "reverse False against True, all else equal: mirror is nearer to real video's in 2 of 2 pairs "
        "(0.16 times the distance, the median)." in text
    )
    assert "overlap 4 against 2, all else equal: mirror cannot be told apart." in text


def test_every_value_of_a_text_axis_is_set_against_the_first(tmp_path):
    axes = {"overlap": [2, 4], "join": ["keep", "drop", "blend"]}
    text = toy(tmp_path / "run", axes, lambda v: ({"keep": 0.3, "drop": 0.9, "blend": 0.3}[v["join"]], 0.05))
    assert "join drop against keep, all else equal: mirror is farther from it in 2 of 2 pairs (4.00 times" in text
    assert "join blend against keep, all else equal: mirror cannot be told apart." in text


def test_pairs_tell_what_two_intervals_cannot(tmp_path):
    """The same prompts and noise: the intervals of two rows overlap widely, that of their difference excludes 0."""
    axes = grid(frames=(16,), methods=("ours",), overlaps=(2,))
    told = []
    for pairs in ("the same", ""):
        cells = cells_of(axes)
        lines = []
        for cell, reference in cells:
            record = record_of(cell, reference)
            if not reference:
                values = [
                    float(10 * video + (cell.values["precision"] == "bf16") + 0.1 * (video % 3)) for video in range(9)
                ]
                number = Number(sum(values) / 9, "", "higher", 9, 10.0, 70.0)
                facts = {"pairs": pairs} if pairs else {}
                record = replace(record, numbers={"action": number}, samples={"action": tuple(values)}, facts=facts)
            lines.append(record.to_json() + "\n")
        folder = tmp_path / (pairs or "none")
        folder.mkdir()
        (folder / "manifest.json").write_text(json.dumps(manifest_of(axes, cells)))
        (folder / "records.jsonl").write_text("".join(lines))
        told.append(said(folder))
    assert "precision bf16 against fp32, all else equal: action is better in the one pair (1.02 times)." in told[0]
    assert "precision bf16 against fp32, all else equal: action cannot be told apart" in told[1]


def test_one_cell_and_no_records(tmp_path):
    assert said(one_cell(tmp_path / "one")).startswith("The one cell has its numbers. FVD is lowest for ours")
    empty = write(tmp_path / "none", grid(), records=False)
    assert said(empty) == "0 of 26 cells have their numbers; 26 not run yet."


def test_two_thousand_cells(tmp_path):
    text = said(many_cells(tmp_path / "many"))
    assert text.startswith("All 2042 cells have their numbers.")
    assert len(text) < 4000
